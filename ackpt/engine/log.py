"""The log as a subscriber to events: one INFO line a checkpoint, a WARNING for what a person should know."""

from __future__ import annotations

import logging

from ackpt.errors import explain
from ackpt.events import Committed, Deleted, Event, Failed, Parked, Skipped, Superseded
from ackpt.options import written_size

_log = logging.getLogger("ackpt")


def log_event(event: Event) -> None:
    """Log `event` if it is worth a line."""
    match event:
        case Committed(already=True):
            _log.info("step %d was committed to %s before, unchanged", event.step, event.target)
        case Committed():
            _log.info(
                "step %d committed to %s: %s%s, stall %.1f ms, staged in %.2f s, uploaded in %.2f s",
                event.step,
                event.target,
                written_size(event.size),
                f" ({written_size(event.copied)} of it copied, not sent)" if event.copied else "",
                event.stall_secs * 1e3,
                event.stage_secs,
                event.upload_secs,
            )
        case Superseded():
            _log.info("step %d gave way to step %d before its upload began", event.step, event.by_step)
        case Skipped():
            _log.info("step %d skipped: step %d was still being saved", event.step, event.busy_step)
        case Failed():
            _log.warning("step %d was not saved to %s: %s", event.step, event.target, explain(event.error))
        case Parked():
            _log.warning(
                "step %d is not in %s yet: parked in %s for the next start",
                event.step,
                event.target,
                event.folder,
            )
        case Deleted():
            _log.debug("step %d deleted from %s by retention", event.step, event.target)
