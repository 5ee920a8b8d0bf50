# The image runs this once, with an empty volume: MLflow gets a database of its own beside the records'.
createdb --username dancedist mlflow
