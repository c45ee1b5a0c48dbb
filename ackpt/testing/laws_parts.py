"""The laws of parts that may go in any order, many at a time, and be repeated (`Upload.put_part`)."""

from __future__ import annotations

import pytest

from ackpt.backends.base import PartReceipt, SequentialUpload
from ackpt.errors import LocalFileError, StorageError, UnsupportedError
from ackpt.testing.bodies import FailingBody
from ackpt.testing.law import Laws, Scene, as_multipart, body_of, law, send, settled


class PartLaws(Laws):
    """State what holds for parts; a backend whose uploads are sequential skips them by their type."""

    @law
    async def test_parts_may_go_in_any_order(self, scene: Scene) -> None:
        """The number decides a part's place, not when it came; the last, smaller one may come first."""
        pieces = scene.pieces(4)
        for turn, order in enumerate([(4, 3, 2, 1), (2, 4, 1, 3)]):
            upload = await scene.parallel_upload(f"object-{turn}")
            receipts = [await upload.put_part(number, body_of(pieces[number - 1])) for number in order]
            assert [part.number for part in await upload.parts()] == [1, 2, 3, 4]
            await upload.complete(receipts)
            await scene.holds(f"object-{turn}", b"".join(pieces))

    @law
    async def test_parts_may_go_all_at_one_time(self, scene: Scene) -> None:
        """Parts sent at one time do not disturb each other."""
        pieces = scene.pieces(6)
        upload = await scene.parallel_upload("object")
        receipts = await settled(
            *(upload.put_part(number, body_of(piece)) for number, piece in enumerate(pieces, 1))
        )
        assert all(isinstance(receipt, PartReceipt) for receipt in receipts), receipts
        await upload.complete(await upload.parts())
        await scene.holds("object", b"".join(pieces))

    @law
    async def test_parts_may_come_from_several_backends(self, scene: Scene) -> None:
        """Two backends may send parts of one upload at one time."""
        pieces = scene.pieces(6)
        one = await scene.parallel_upload("object")
        two = await as_multipart(scene.another()).open_upload("object", one.id)
        receipts = await settled(
            *(
                (one, two)[number % 2].put_part(number, body_of(piece))
                for number, piece in enumerate(pieces, 1)
            )
        )
        assert all(isinstance(receipt, PartReceipt) for receipt in receipts), receipts
        assert [part.number for part in await two.parts()] == [1, 2, 3, 4, 5, 6]
        await two.complete(await one.parts())
        await scene.holds("object", b"".join(pieces))

    @law
    async def test_numbers_may_have_gaps(self, scene: Scene) -> None:
        """Numbers say the order and nothing else, up to the greatest that the limits allow."""
        pieces = scene.pieces(3)
        greatest = scene.multipart.limits.max_parts
        upload = await scene.parallel_upload("object")
        receipts = [
            await upload.put_part(number, body_of(piece))
            for number, piece in zip([2, min(7, greatest - 1), greatest], pieces, strict=True)
        ]
        await upload.complete(receipts)
        await scene.holds("object", b"".join(pieces))

    @law
    async def test_parts_may_differ_in_size(self, scene: Scene) -> None:
        """Parts need not be of one size, in whatever order they come."""
        grain = scene.multipart.limits.granularity_bytes
        pieces = scene.pieces(4)
        pieces[1] += bytes(grain)
        pieces[2] += bytes(3 * grain)
        for turn, order in enumerate([(1, 2, 3, 4), (3, 1, 4, 2)]):
            upload = await scene.parallel_upload(f"object-{turn}")
            for number in order:
                await upload.put_part(number, body_of(pieces[number - 1]))
            await upload.complete(await upload.parts())
            await scene.holds(f"object-{turn}", b"".join(pieces))

    @law
    async def test_the_last_part_sent_under_a_number_counts(self, scene: Scene) -> None:
        """A repeated part takes the place of the earlier one, whatever its size."""
        pieces, others = scene.pieces(3), scene.pieces(3, seed=7)
        upload = await scene.parallel_upload("object")
        await send(upload, others)
        receipts = await send(upload, pieces[:2])
        receipts.append(await upload.put_part(3, body_of(b"a shorter last part")))
        listed = await upload.parts()
        assert [(part.number, part.size, part.token) for part in listed] == [
            (receipt.number, receipt.size, receipt.token) for receipt in receipts
        ]
        await upload.complete(receipts)
        await scene.holds("object", b"".join(pieces[:2]) + b"a shorter last part")

    @law
    async def test_one_part_sent_twice_at_one_time_is_one_of_them(self, scene: Scene) -> None:
        """Of two bodies for one number at one time, one counts as a whole."""
        (piece, last), (other, _) = scene.pieces(2), scene.pieces(2, seed=7)
        upload = await scene.parallel_upload("object")
        results = await settled(upload.put_part(1, body_of(piece)), upload.put_part(1, body_of(other)))
        assert all(isinstance(result, PartReceipt) for result in results), results
        await upload.put_part(2, body_of(last))
        await upload.complete(await upload.parts())
        assert await scene.read("object") in (piece + last, other + last), "a mixture of two parts"

    @law
    async def test_a_repeat_that_fails_leaves_the_earlier_part_or_none(self, scene: Scene) -> None:
        """When sending a part again fails, the store has the earlier one whole, or says it has none."""
        pieces = scene.pieces(2)
        upload = await scene.parallel_upload("object")
        await send(upload, pieces)
        body = FailingBody(bytes(len(pieces[0])), LocalFileError("the staged file has gone"))
        with pytest.raises(LocalFileError):
            await upload.put_part(1, body)
        if 1 not in [part.number for part in await upload.parts()]:
            await upload.put_part(1, body_of(pieces[0]))
        await upload.complete(await upload.parts())
        await scene.holds("object", b"".join(pieces))

    @law
    async def test_receipts_may_be_in_any_order(self, scene: Scene) -> None:
        """The object is made in order of the numbers, not of the list."""
        pieces = scene.pieces(3)
        upload = await scene.parallel_upload("object")
        receipts = await send(upload, pieces)
        await upload.complete(receipts[::-1])
        await scene.holds("object", b"".join(pieces))

    @law
    async def test_only_the_parts_named_are_used(self, scene: Scene) -> None:
        """Parts whose receipts are left out do not come into the object."""
        pieces = scene.pieces(4)
        for turn, chosen in enumerate([(1, 2, 4), (1, 2), (2, 4)]):
            upload = await scene.parallel_upload(f"object-{turn}")
            receipts = await send(upload, pieces)
            await upload.complete([receipts[number - 1] for number in chosen])
            await scene.holds(f"object-{turn}", b"".join(pieces[number - 1] for number in chosen))

    @law
    async def test_a_receipt_of_no_part_makes_no_object(self, scene: Scene) -> None:
        """A completion that names a part the store does not have is refused."""
        pieces = scene.pieces(2)
        upload = await scene.parallel_upload("object")
        receipts = await send(upload, pieces)
        stranger = PartReceipt(number=3, size=receipts[0].size, token=receipts[0].token)
        with pytest.raises(StorageError):
            await upload.complete([*receipts, stranger])
        await scene.absent("object")
        await upload.abort()

    @law
    async def test_numbers_out_of_the_limits_are_refused(self, scene: Scene) -> None:
        """A number below 1 or past the greatest is an error."""
        upload = await scene.parallel_upload("object")
        with pytest.raises(StorageError):
            await upload.put_part(scene.multipart.limits.max_parts + 1, body_of(b"bytes"))
        with pytest.raises(StorageError):
            await upload.put_part(0, body_of(b"bytes"))
        await upload.abort()

    @law
    async def test_a_sequential_upload_refuses_another_order(self, scene: Scene) -> None:
        """An upload that takes its parts in order says so at once, and goes on with the right one."""
        pieces = scene.pieces(2)
        upload = await scene.upload("object")
        if not isinstance(upload, SequentialUpload):
            await upload.abort()
            pytest.skip("the upload is not a SequentialUpload")
        with pytest.raises(UnsupportedError):
            await upload.put_part(2, body_of(pieces[1]))
        await upload.complete(await send(upload, pieces))
        await scene.holds("object", b"".join(pieces))
