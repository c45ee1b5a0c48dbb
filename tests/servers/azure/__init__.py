"""A strict server of Azure's Blob API, over a real socket, for what the emulator Azurite is not strict in.

Written from Microsoft's public documentation, cited at each behaviour: checksums that are computed,
compared and told; blocks that belong to a name; tokens, signatures and clocks; faults on demand.
One account, addressed as emulators are: `http://127.0.0.1:port/account/container/blob`.
"""

from tests.servers.azure.runner import AzureServer

__all__ = ["AzureServer"]
