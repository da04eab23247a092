#!/usr/bin/env python3
"""Decodes a frame to JSON by docs/wire.md alone: scripts/decode.py batch|manifest|live FILE

Not part of the product: it shows that the page is enough to write a decoder in another language, and a test holds it
against `speedwell decode`. Times and values are shown in the integers of the block.
"""
import json
import struct
import sys

M64 = (1 << 64) - 1
KINDS = "started stopped sensor-fault sensor-recovered clock-step spool unconfirmed configuration tooth-damaged calibration disagreement".split()
SOURCES = "untrusted ntp gnss rtc".split()
REASONS = "spool-full-oldest spool-full-newest damaged overrun too-large too-old thinned".split()
QUALITIES = "good estimated degraded stopped".split()
NO_DATA = "silent stale not-available sensor-error no-fix fault out-of-range no-target".split()
QUANTITIES = ("speed rotational-speed distance latitude longitude course altitude acceleration count "
              "direction angle lost suspected repaired rejected").split()
GAINS = [(2, 0), (8, 0), (8, 8), (7, 5)]
FOLLOW = [16, 16, 8, 5, 4, 3, 3, 2, 2, 2, 2, 1]


def wrap(i):
    """To a signed number of 64 bits."""
    return (i + (1 << 63) & M64) - (1 << 63)


def unzigzag(u):
    return u >> 1 if u % 2 == 0 else -(u >> 1) - 1


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Postcard:
    def __init__(self, data):
        self.data, self.at = data, 0

    def raw(self, n):
        assert self.at + n <= len(self.data), "the frame ends early"
        self.at += n
        return self.data[self.at - n:self.at]

    def u(self):
        value = shift = 0
        while True:
            byte = self.raw(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def i(self):
        return unzigzag(self.u())

    def text(self):
        return self.raw(self.u()).decode()

    def option(self, read):
        return read() if self.raw(1)[0] else None

    def many(self, read):
        return [read() for _ in range(self.u())]


class Bits:
    def __init__(self, data):
        self.all, self.left = int.from_bytes(data, "big"), 8 * len(data)

    def get(self, n):
        assert n <= self.left, "the block ends early"
        self.left -= n
        return self.all >> self.left & (1 << n) - 1

    def unary(self, most):
        n = 0
        while self.get(1):
            n += 1
            assert n <= most, "a number outside its range"
        return n

    def bits(self, n):
        assert n <= 64, "a number outside its range"
        return 1 << n - 1 | self.get(n - 1) if n else 0

    def gamma(self):
        return self.bits(self.unary(64))

    def long(self):
        return self.bits(self.get(7))

    def near(self):
        return unzigzag(self.unary(128))

    def rice(self, k):
        """The number and whether it is a jump."""
        q = 0
        while q < 20 and self.get(1):
            q += 1
        return (q << k | self.get(k), False) if q < 20 else (self.get(self.get(6) + 1), True)


class Mean:
    def __init__(self, k):
        self.s = 24 << k

    def k(self):
        return min(32, max((self.s >> 4).bit_length() - 1, 0))

    def rice(self, b):
        k = self.k()
        u, jump = b.rice(k)
        self.s += min(u, 20 << k) - (self.s >> 4)
        return unzigzag(u), jump


def block(data):
    assert data[0] == 1, "a form that came after this page"
    return Block(data).columns


class Block:
    def __init__(self, data):
        self.b, self.most = Bits(data[1:]), 8 * len(data)
        self.channel, self.count, self.mode, self.code, self.base, self.ticks = 65535, 0, 0, 0, None, []
        self.period = self.origin = self.origin_step = self.first = 0
        self.times, self.first_bits, self.value_k = Mean(0), 14, 4
        self.before = (0, 0, 0)
        self.columns = [self.column() for _ in range(self.b.gamma())]
        samples = 8 * len(data) - self.most
        assert self.b.get(self.b.left) == 0 and (self.b.left < 8 or len(data) <= -(-samples // 8)), "bytes left over"

    def column(self):
        b, quality = self.b, None
        as_last = b.get(1)
        before, self.before = self.before, (self.count, self.mode, self.code)
        if not as_last and b.get(1):
            as_last, (self.count, self.mode, self.code) = 1, before
        self.channel = (self.channel + 1) % 65536 if as_last or b.get(1) else b.get(16)
        if not as_last:
            self.count = self.count if b.get(1) else b.gamma()
            if not b.get(1):
                self.mode = b.get(2)
                if self.mode != 0 and not b.get(1):
                    whole = b.get(1)
                    self.period = b.long() << (10 if whole else 0)
                    self.times = Mean(b.get(6))
        assert 0 < self.count <= self.most, "a count that cannot be"
        self.most -= self.count
        codes = [self.code] * self.count if as_last or b.get(1) else self.codes()
        quality = ["good"] * self.count if as_last or b.get(1) else self.qualities()
        if self.mode != 0:
            self.ticks = self.schedule()
        assert len(self.ticks) == self.count, "a copy of another count"
        same = all(q == quality[0] for q in quality)
        return {"channel": self.channel, "ticks": self.ticks, "steps": self.values(), "uncertainty": None,
                "uncertainty_code": codes, "quality": quality[0] if same else quality}

    def codes(self):
        one, codes, mean = self.b.get(1), [self.b.get(8)], Mean(1)
        while len(codes) < self.count:
            codes.append(codes[-1] if one else (codes[-1] + mean.rice(self.b)[0]) % 256)
        self.code = codes[-1]
        return codes

    def qualities(self):
        out = []
        while len(out) < self.count:
            quality = QUALITIES[self.b.get(2)]
            out += [quality] * self.b.gamma()
        return out

    def schedule(self):
        if self.base is None:
            self.base = self.b.long()
        near, period, ticks = self.b.get(1), self.period, []
        level, n, shift = wrap(self.origin + self.origin_step), 4, 0
        for i in range(self.count):
            r, jump = (unzigzag(self.b.long()), False) if i == 0 and not near else self.times.rice(self.b)
            x = wrap((wrap(level + 512) >> 10) + r)
            ticks.append(self.base + x & M64)
            if i == 0 and not near:
                level, n = wrap(x << 10), 1
            if jump and i > 0:
                step = 0 if abs(r) >= 1 << 52 else r << 10
                step = wrap(wrap(step + period // 2) // period * period) if period else step
                level, shift = wrap(level + step + period), wrap(shift + step)
            else:
                f = 16 if self.mode == 2 else FOLLOW[n]
                level = wrap(level + (wrap(wrap((x << 10) - level) * f) >> 4) + period)
                n = min(n + 1, 11)
        begun = wrap(level - shift - self.count * period)
        moved = wrap(begun - self.origin)
        self.origin_step = wrap(self.origin_step + (wrap(moved - self.origin_step) >> 1)) if near else moved
        self.origin = begun
        return ticks

    def values(self):
        b, n = self.b, self.count
        moves = b.get(1)
        if not moves and not b.get(1):
            return [0] * n
        against = b.get(1)
        self.first_bits += b.near()
        self.first = first = wrap(unzigzag(b.bits(self.first_bits)) + (self.first if against else 0))
        if not moves or n == 1:
            return [first] * n
        up, tilt = GAINS[b.get(2)]
        self.value_k += b.near()
        x = unzigzag(b.rice(self.value_k + 2)[0])
        level, trend = (wrap(x << 10), wrap(x << 10)) if tilt else (wrap(wrap(x << 10) * up) >> 3, 0)
        out, mean = [first, wrap(first + x)], Mean(self.value_k)
        while len(out) < n:
            r, jump = mean.rice(b)
            ahead = wrap(level + trend)
            x = wrap((wrap(ahead + 512) >> 10) + r)
            e = wrap((x << 10) - ahead)
            if jump:
                level = wrap(x << 10)
            else:
                level, trend = wrap(ahead + (wrap(e * up) >> 3)), wrap(trend + (wrap(e * tilt) >> 3))
            out.append(wrap(first + x))
        return out


def batch(p):
    head = {"gateway": p.text(), "log": p.raw(8).hex(), "first_seq": p.u()}
    head["oldest_seq"] = head["first_seq"] - p.u() & M64
    return head | {"entries": p.many(lambda: {"span": p.u()} | RECORDS[p.u()](p))}


def at(p):
    return p.option(lambda: {"boot": p.u(), "boot_ns": p.u()})


RECORDS = [
    lambda p: {"samples": {"manifest": p.raw(8).hex(), "boot": p.u(), "channels": block(p.raw(p.u()))}},
    lambda p: {"event": {"boot": p.u(), "boot_ns": p.u(), "sensor": p.option(p.text), "kind": KINDS[p.u()],
                         "detail": p.text()[:512]}},
    lambda p: {"clock": {"boot": p.u(), "boot_ns": p.u(), "utc_ns": p.i(), "uncertainty_ns": p.u(),
                         "rate_ppb": p.i(), "source": SOURCES[p.u()]}},
    lambda p: {"loss": {"reason": REASONS[p.u()], "records": p.u(), "samples": p.u(), "from": at(p), "until": at(p)}},
]


def manifest(p):
    return {"channels": p.many(lambda: {
        "id": p.u(), "sensor": p.text(), "quantity": QUANTITIES[p.u()], "resolution_nano": p.u(), "tick_ns": p.u(),
        "period_ns": p.u(), "calibration": p.u()})}


def said(p):
    if p.u():
        return {"no_data": NO_DATA[p.u()]}
    value, uncertainty = struct.unpack("<df", p.raw(12))
    return {"value": value, "uncertainty": float(f"{uncertainty:.7g}"), "quality": QUALITIES[p.u()]}


def live(p):
    return {"manifest": p.raw(8).hex(), "boot": p.u(), "now_ns": p.u(),
            "values": p.many(lambda: {"channel": p.u(), "t_ns": p.u()} | said(p))}


def main(what, path):
    data = open(path, "rb").read()
    assert data[0] == 1, "a version that came after this page"
    assert crc32c(data[:-4]) == int.from_bytes(data[-4:], "little"), "the check sum is wrong"
    print(json.dumps({"batch": batch, "manifest": manifest, "live": live}[what](Postcard(data[1:-4]))))


if __name__ == "__main__":
    main(*sys.argv[1:])
