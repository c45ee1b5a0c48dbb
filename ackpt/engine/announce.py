"""What becomes of saves, told to all who want to know: the tally, the pace, subscribers, listeners."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ackpt.engine.failure import FailurePolicy, FailureTally
from ackpt.engine.listeners import CheckpointListener, Dispatcher
from ackpt.engine.log import log_event
from ackpt.engine.preemption import Pace
from ackpt.events import Event, Outcome

_log = logging.getLogger(__name__)

Subscriber = Callable[[Event], None]


class Announcer:
    """Tell of every event, in order; on one event loop. `tally` may be read from any thread."""

    def __init__(
        self,
        listeners: Sequence[CheckpointListener],
        failure: FailurePolicy,
        publish: Callable[[Event], None],
    ) -> None:
        """Tell `listeners`; what becomes of telling them is an event, too, and goes to `publish`."""
        self.tally = FailureTally(failure)
        self.pace = Pace()
        self.dispatcher = Dispatcher(listeners, publish)
        self._subscribers: list[Subscriber] = [log_event]

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call `subscriber` with every event from now on; what it raises is logged."""
        self._subscribers.append(subscriber)

    def tell(self, event: Event) -> None:
        """Tell of `event`: the figures first, so that whoever is told sees them up to date."""
        if isinstance(event, Outcome):
            self.tally = self.tally.after(event)
            self.pace = self.pace.after(event)
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception:
                _log.exception("a subscriber raised at step %d; the save is not touched by it", event.step)
        self.dispatcher.send(event)
