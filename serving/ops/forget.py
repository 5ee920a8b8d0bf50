"""`python -m serving.ops.forget NAME [--remove]`: what the service has of a dancer, as JSON, for jobs."""

from __future__ import annotations

import json
from functools import partial

import typer

from cluster.tracking.registry import model_name
from serving.db.engine import Database
from serving.db.records import Records
from serving.ops.retention import remove
from serving.settings import Settings
from serving.workers import paths


def forget(records: Records, settings: Settings, dancer: str, *, really: bool) -> dict[str, list[str]]:
    """Ids of a dancer's renders, the files of their films and chunks, their uploads; removed if `really`.

    An upload that another render has stays.
    Those under way are cancelled first. It may be broken off anywhere: a record goes after what it tells of.
    """
    rows = records.of_dancer(model_name(dancer))
    works, uploads = paths.works(settings.storage), paths.sources(settings.storage)
    if really:
        for row in rows:
            records.cancel(row.id)
    fingerprints = sorted({row.fingerprint for row in rows})
    files = [f"{works.uri}/{entry.name}" for one in fingerprints for entry in works.list(f"{one}/")]
    sent = sorted({row.source for row in rows if row.source.startswith(f"{uploads.uri}/")})
    if really:
        for row in rows:
            remove(records, settings, row)
        for source in sent:
            records.unneeded(source, partial(uploads.delete, source.removeprefix(f"{uploads.uri}/")))
    return {"renders": [row.id for row in rows], "films and chunks": files, "sources of renders": sent}


def _main(dancer: str, really: bool = typer.Option(False, "--remove")) -> None:
    settings = Settings()
    database = Database(settings.database)
    typer.echo(json.dumps(forget(Records(database), settings, dancer, really=really)))
    if really:
        database.purge()
    database.close()


if __name__ == "__main__":
    typer.run(_main)
