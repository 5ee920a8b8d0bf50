# The image runs this once, on an empty volume: create MLflow's database; the one of the records exists already.
createdb --username dancedist mlflow
