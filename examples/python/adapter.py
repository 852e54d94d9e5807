"""A marketplace in Python: the mock rules under the name ``python``."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.adapter import (
    Fault_RateLimited,
    Manifest,
    Order,
    Request,
    Verdict,
    Verdict_Accepted,
    Verdict_Rejected,
)
from wit_world.imports import log

DIGITS = "0123456789"


def fnv1a(data: bytes) -> int:
    """The 64-bit FNV-1a hash."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def order(request: Request) -> Order:
    value = fnv1a(request.receipt.encode())
    cents = 1000 + value % 99000
    # A decimal text, never a float: the host keeps money exact.
    amount = f"{cents // 100}.{cents % 100:02}"
    return Order(f"order-{value:016x}", amount, request.currency, request.now)


class Adapter(exports.Adapter):
    def describe(self) -> Manifest:
        return Manifest("python", "Python example", "0.1.0", [], [], [])

    def validate(self, request: Request) -> Verdict:
        end = request.receipt[-2:]
        if len(end) == 2 and all(c in DIGITS for c in end) and sum(map(int, end)) % 6 == 0:
            log.log(log.Level.DEBUG, "asked too often")
            raise Err(Fault_RateLimited(60))
        if end and end[-1] in "13579":
            return Verdict_Accepted(order(request))
        return Verdict_Rejected("the marketplace knows no such receipt")
