"""A link as long-distance ones are: each connection has a rate and a delay of its own, each way.

    python -m bench.narrow PORT RATE_BYTES DELAY_SECS

Listens on a free port of the loopback, which it prints, and passes everything on to PORT.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

BLOCK_BYTES = 64 * 1024


class Narrow:
    """Pass connections on to `port`, at `rate_bytes` a second each way and `delay_secs` later."""

    def __init__(self, port: int, rate_bytes: float, delay_secs: float) -> None:
        self._port = port
        self._rate_bytes = rate_bytes
        self._delay_secs = delay_secs

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on until both sides have ended it."""
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # what is on its way is bounded by what the delay holds, as a window of that size would
        on_the_way = max(2, int(2 * self._delay_secs * self._rate_bytes / BLOCK_BYTES))
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(on_the_way)
        loop = asyncio.get_running_loop()

        async def take() -> None:
            free = 0.0
            with suppress(OSError):
                while block := await reader.read(BLOCK_BYTES):
                    free = max(free, loop.time()) + len(block) / self._rate_bytes
                    await queue.put((free + self._delay_secs, block))
            await queue.put((0.0, b""))

        async def give() -> None:
            while True:
                due, block = await queue.get()
                if not block:
                    break
                if writer.is_closing():  # who was to read it has gone; what still comes goes nowhere
                    continue
                await asyncio.sleep(due - loop.time())
                with suppress(OSError):
                    writer.write(block)
                    await writer.drain()
            writer.close()

        await asyncio.gather(take(), give())


async def _main(port: int, rate_bytes: float, delay_secs: float) -> None:
    narrow = Narrow(port, rate_bytes, delay_secs)
    server = await asyncio.start_server(narrow.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
