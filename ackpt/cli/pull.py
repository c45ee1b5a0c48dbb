"""`ackpt pull URL FOLDER`: fetch the newest whole checkpoint, verified."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ackpt.cli.command import Command, add_url
from ackpt.engine.restore import restore


def _add_arguments(parser: ArgumentParser) -> None:
    add_url(parser)
    parser.add_argument("folder", help="where to put it: a model_dir")
    parser.add_argument("--step", type=int, help="that step and no other")
    parser.add_argument("--staging-dir", help="where the run's saver stages, if not in the default place")
    parser.add_argument("--fallback", help="the URL of the run's fallback, if it has one")


def _run(arguments: Namespace) -> int:
    prefix = restore(
        arguments.url,
        arguments.folder,
        step=arguments.step,
        staging_dir=arguments.staging_dir,
        fallback=arguments.fallback,
    )
    print(prefix if prefix is not None else f"no committed checkpoint in {arguments.url}")
    return 0 if prefix is not None else 1


PULL = Command(name="pull", help="fetch the newest whole checkpoint", add_arguments=_add_arguments, run=_run)
