"""People's labels of verdicts: annotations, which samples to label next, Label Studio."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.config.options import DEFAULT_ROOT, JsonOption, RootOption, RunArgument, console, examples, print_json
from schemas.errors import BadInput

app = typer.Typer()


@app.command(
    "annotations",
    epilog=examples(
        "gristmill annotations latest",
        "gristmill annotations latest --next 50 --export tasks.jsonl",
        "gristmill annotations latest --import project-1.json --by anna",
        "gristmill annotations latest --labels labels.jsonl",
    ),
)
def what_people_say(
    name: RunArgument,
    following: Annotated[
        int | None, typer.Option("--next", min=1, metavar="N", help="Show the N samples whose labels would tell most.")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Write them as tasks for Label Studio, one per line."),
    ] = None,
    read: Annotated[
        Path | None, typer.Option("--import", metavar="FILE", help="Read an export of Label Studio as annotations.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the labels, for gristmill op --in labels=FILE.")
    ] = None,
    by: Annotated[str, typer.Option(help="Who annotated, if the export doesn't say.")] = "",
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Show what people found about a run's verdicts, and what it means for the verifier (measure.verifier_audit).

    Verdicts are annotated on the page (gristmill view RUN --control) or in Label Studio.
    """
    from cluster.records.annotations import annotate, annotations_of
    from cluster.records.orders import author
    from cluster.records.reader import find_run
    from cluster.storage.root import Root
    from cluster.storage.tables import write_table
    from jobs.export.label_studio import CONFIG, read_export, tasks, write_tasks
    from jobs.looking.labels import audit, labels_of, next_labels, print_audit, with_texts

    if sum(one is not None for one in (export, read, labels)) > 1 or (following and read):
        raise BadInput("one at a time: --export, --import or --labels; --next goes with --export and --labels")
    place = Root.at(root)
    manifest = find_run(place, name)
    if read is not None:
        rows = annotate(place, manifest, read_export(read, by or author()))
        said = {"taken": len(rows)}
        print_json(said) if as_json else typer.echo(f"{len(rows):,} annotations taken from {read}")
        return
    if following is None and export is None and labels is None:
        document = audit(place, manifest)
        print_json(document) if as_json else print_audit(console(), document)
        return
    known = annotations_of(place, manifest)
    if following is not None:
        found = next_labels(place, manifest, following)
    else:
        found = labels_of(place, manifest) if labels is not None else with_texts(place, manifest, known)
    if export is not None:
        verifier = next(iter(known["verifier"].drop_nulls()), "verifier") if len(known) else "verifier"
        count = write_tasks(export, tasks(found, known, verifier))
        if as_json:
            print_json({"tasks": count, "file": str(export), "config": CONFIG})
        else:
            typer.echo(f"{count:,} tasks in {export}; the project's labelling interface:\n{CONFIG}", nl=False)
    elif labels is not None:
        write_table(found, str(labels))
        said = {"labels": len(found), "file": str(labels)}
        print_json(said) if as_json else typer.echo(f"{len(found):,} labels in {labels}")
    elif as_json:
        print_json(found.to_dicts())
    else:
        for row in found.iter_rows(named=True):
            typer.echo(f"{row['problem_id']}/{row['sample_index']}  {row['stratum']}")
