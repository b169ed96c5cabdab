"""The decoder that `write_decoder` makes small files of: all that BITSTREAM.md and docs/CONTAINER.md describe, in as little code as possible.

It runs as it is, too. README.md beside it says how to write here. `has(feature, condition)` marks what only some files need: the writer runs this module
on a file, hears which conditions hold, and folds all others to false. Checksums and "Corrupted if" are not checked: a damaged file gives an error or
wrong tensors, but it never runs for ever, as every loop takes bits of the file (`bits` fails behind its end) or has a limit.
"""

import zlib

import torch

RATIO = 15  # a stream has less than 2^15 numbers for each byte of the file; the writer says how many the file has
ESCAPE = 99999  # what a slot says in place of a symbol, if a raw value follows
_NAMES = """bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 bfloat16 float32 float64 complex32 complex64 complex128 float8_e4m3fn float8_e4m3fnuz
float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn_x2 bits8 bits16 bits1x8 bits2x4 bits4x2"""
DTYPES = [getattr(torch, name, None) for name in _NAMES.split()]  # the writer lists those of the file only


def has(feature, condition):
    """The condition. What it is the mark for: see above."""
    return condition


def used(feature):
    """Whether a feature is marked by any `has`."""
    return True


def one(name, value):
    """The value. If it is the same number wherever `one` has this name, the writer writes that number; otherwise it marks the feature VARIES_name."""
    return value


def load(content):
    """Tensors by name, of the bytes of a file. Within `with torch.device("cuda"):` they are decoded there."""

    # ---- Bits: of the bytes `data`, from bit `at` on (which is never among the first 160) ----

    def bits(count):
        nonlocal at
        at += count
        return int(data[at // 8 - 20 : at // 8 + 1].hex(), 16) >> 8 - at % 8 & (1 << count) - 1

    def exp_golomb(order):
        nonlocal at
        length = bits(64).bit_length()
        at -= length
        return bits(65 - length + order) - (1 << order)

    def unfold(value):
        return value >> 1 ^ -(value & 1)

    def signed(order):
        return -unfold(exp_golomb(order))

    def align():
        nonlocal at
        at = at + 7 & -8

    def varint():
        byte = bits(8)
        return byte % 128 + (byte > 127 and varint() * 128)

    def varints(count):
        return [varint() for _ in range(count)]

    # ---- Tables: per slot symbol << 24 | frequency << 12 | bias ----

    def make_slots(core, escape, first, buckets):
        rest = (core + [escape] + [0] * 256)[:buckets]
        own = [(first + i if i < len(core) else ESCAPE) << 24 | freq << 12 for i, freq in enumerate(rest)]
        width = 4096 // buckets
        alias = [*range(buckets)]
        large = [b for b in alias if rest[b] >= width]
        small = sorted(alias, key=rest.__getitem__)[: buckets - len(large)]
        late = []
        turn = 0
        while small or late:
            b = small.pop(turn) if small else late.pop()
            turn = ~turn
            a = alias[b] = large[-1]
            rest[a] -= width - rest[b]
            if rest[a] < width:
                late.append(large.pop())
        # rest holds the dividers now; slots of an index have successive entries, as biases count up
        others = [*map(sum, zip(own, rest))]
        slots = []
        for b, a in enumerate(alias):
            slots += [*range(own[b], own[b] + rest[b])[:width], *range(others[a], others[a] + width - rest[b])[:width]]  # of a damaged file there would be more
            others[a] += width - rest[b]
        return slots

    def read_table(is_signed):
        first = signed(4)
        core = 1 - 2 * first if bits(1) else bits(8) + 1
        escapes = bits(1)
        raw_bits = raw_min = escape = 0
        if has("ESCAPES", escapes):
            raw_bits = bits(4) + 1
            raw_min = -(is_signed << raw_bits - 1)
            if has("RAW_MIN", bits(1)):
                raw_min = signed(4)
        shift = bits(3)
        adjust = bits(3) - 4
        mirrored = bits(1)
        if has("MIRRORED", mirrored):
            mirror_adjust = bits(3) - 4
        if has("ESCAPES", escapes):
            escape = exp_golomb(4)
        units = [0, 0]
        for i in range(core - 1):
            a = units[-1]
            if used("MIRRORED"):
                order = adjust
            p = min(2 * a, max(a >> 1, a * a // max(1, units[-2])))
            if has("MIRRORED", mirrored and 0 <= -2 * first - i < i):
                p = units[2 - 2 * first - i]
                order = mirror_adjust
            value = exp_golomb(max(0, p.bit_length() // 2 + (order if used("MIRRORED") else adjust)))
            units.append(value if value > 2 * p else p - unfold(value))
        align()
        units = [unit << shift for unit in units[2:] + [(4096 >> shift) - sum(units) - escape]]
        return make_slots(units, escape << shift, first, 64 << (core + escapes > 64) + (core + escapes > 128)), raw_bits, raw_min

    # ---- Tails ----

    def start_tail(states):
        """State, and the words that follow, the next one last."""
        text = "".join([bin(state)[3:] for state in states]).lstrip("0")
        head = (len(text) - 1) % 16 + 17  # more than there is, if there are no words
        return [int(text[:head], 2), [int(text[i - 16 : i], 2) for i in range(len(text), head, -16)]]

    def decode_tail(tail, slots, raw_bits, raw_min):
        """The next symbol of a tail."""
        state, words = tail

        def refill(value):
            return value << 16 | words.pop() if value < 65536 and words else value

        entry = int(slots[state % 4096]) if used("MATRIX") else slots[state % 4096]
        state = refill((entry >> 12) % 4096 * (state >> 12) + entry % 4096)
        entry >>= 24
        if used("ESCAPES") and entry == ESCAPE:
            entry = raw_min + state % (1 << raw_bits)
            state = refill(state >> raw_bits)
        tail[0] = state
        return entry

    # ---- Matrix streams ----

    def octave(number):
        return round(2 ** (15 + number / 16))

    def pow8(factor, scale):
        return factor * octave(scale % 8 * 2) >> 15 - scale // 8

    def read_array(count):
        mode = bits(2)
        if has("ARRAY_CODED", mode == 3):
            length = exp_golomb(8)
            align()
            table = read_table(1)
            tail = start_tail([65536 + bits(8) + bits(8) * 256 for _ in range(length)])
            result = [decode_tail(tail, *table) for _ in range(count)]
        elif has("ARRAY_LISTED", mode > 0):
            order = bits(4)
            value = 0
            result = []
            for _ in range(count):
                value = signed(order) + value * (mode == 2)
                result.append(value)
        else:
            result = [signed(4)] * count
        align()
        return result

    def read_predictor():
        stationary = bits(1)
        shift = bits(3) + 1
        period = exp_golomb(6) + 2
        window = exp_golomb(6) + 1
        scaled = bits(1)
        align()
        place = len(coefficients)
        if has("STATIONARY", stationary):
            values = read_array(window)
            for j in range(period):
                coefficients.append([0] * (j - window) + values[: min(j, window)][::-1])
        else:
            values = read_array(sum(min(j, window) for j in range(period)))
            for j in range(period):
                size = min(j, window)
                coefficients.append([0] * (j - size) + values[:size])
                values = values[size:]
        scale = 0
        if has("PREDICTOR_SCALE", scaled):
            scale = read_array(period)
        return [place, period, shift], scale

    def add_table(scale, shape, phase, buckets):
        power = [1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 64][shape]
        nu = 2 * power - 1 << 16
        factor = density = (nu << 30) // (nu + torch.arange(-1, 4098, 2) ** 2)
        for _ in range(power - 1):
            density = density * factor >> 30
        density = density.cumsum(0) - density[0]
        total = (density << 20) // density[2048]
        if has("CLAMPED", not -64 <= scale <= 127):
            scale = max(-64, min(127, scale))
        edge = torch.arange(8 - 8 * buckets - 2 * phase, 8 * buckets - 8 - 2 * phase, 16)
        place = (abs(edge) * octave(-scale % 16) >> 4 - -scale // 16).clamp(max=2**19)
        mass = total[place >> 8] + (total.diff()[place >> 8] * (place & 255) >> 8)
        freq = (mass * edge.sign() + 1048832 >> 9).diff().tolist()
        first = 1 - buckets // 2
        while freq[0] < 1:
            freq.pop(0)
            first += 1
        while freq[-1] < 1:
            freq.pop()
        escape = 4096 - sum(freq)
        if has("FULL_TABLES", escape < 1):
            freq[freq.index(max(freq))] -= 1
            escape = 1
        tables.append(torch.tensor(make_slots(freq, escape, first, buckets)))

    def read_matrix(numel, dtype, number, refers):
        """What the header says of the chunks, whose symbols come when these are decoded."""
        nonlocal at
        columns = exp_golomb(8) + 1
        lines = numel // columns
        trellis = bits(2)
        transposed = bits(1)
        chunk_lines = exp_golomb(8) + 1
        buckets = one("BUCKETS", [64, 128, 256, 32][bits(2)])
        raw_bits = bits(4) + 1
        raw_min = signed(4)
        class_shift = one("CLASS_SHIFT", bits(2))
        origin = signed(4)
        classes = exp_golomb(3)
        place = len(contexts) if used("MODELS") else len(tables)
        one("TRELLISES", min(1, trellis))
        shape = 7
        if has("TRELLIS", trellis):
            odd = [2, 5, 18][trellis - 1]
            parity = [1, 2, 4][trellis - 1]
            one("ODD", odd)
            one("PARITY", parity)
        else:
            odd = parity = 0
        has("ESCAPES", 1)
        for i in range(classes + 1):
            scale = origin + (i << one("CLASS_SHIFT", class_shift)) + (1 << one("CLASS_SHIFT", class_shift) >> 1) + signed(2) - (16 * one("MATRIX_TRELLISES", min(1, trellis)) if used("TRELLIS") else 0)
            shape += signed(0)
            for phase in range(8) if used("MODELS") else [0, 4] if used("TRELLIS") else [0]:
                if used("MODELS"):
                    context = scale, shape, phase, one("BUCKETS", buckets)
                    if context not in table_numbers:
                        table_numbers[context] = len(tables)
                        add_table(*context)
                    contexts.append(table_numbers[context])
                else:
                    add_table(scale, shape, phase, one("BUCKETS", buckets))
        averages = []
        for _ in range(2):
            rate = bits(4)
            if has("AVERAGES", rate):
                averages += [rate + 32 * (rate > 14), bits(4) + 1]  # 15: the average stays, as it does with a shift by 47
            elif used("AVERAGES"):
                averages += [0, 0]
        plain = bits(12)  # 2720: each count and flag that follows is 0
        has("MODELS", plain != 2720)
        if not used("MODELS"):
            align()
            bits(8)  # two flags and what is behind them
        parameters = [columns, *averages] if used("AVERAGES") else [columns]
        if used("AVERAGES"):
            parameters += [origin, class_shift, classes, place]
        if used("VARIES_TRELLISES"):
            parameters += [one("MATRIX_TRELLISES", min(1, trellis))]
        if used("VARIES_ODD"):
            parameters += [odd, parity]
        has("TYPES", dtype != torch.int8)
        if used("TYPES"):
            parameters += [max(-128, torch.iinfo(dtype).min), torch.iinfo(dtype).min, 256**dtype.itemsize - 1]
        if used("MODELS"):
            at -= 12
            given = exp_golomb(1)
            own = exp_golomb(1)
            flags = [(exp_golomb(1), bits(1)) for _ in range(exp_golomb(1) + 1)]
            has_starts = bits(1)
            has_given = bits(1)
            if has("GIVEN", has_given):
                given_transposed = one("GIVEN_TRANSPOSED", bits(1))
            has_references = bits(1)
            if has("REFERENCES", has_references):
                alternating = bits(1)
                has("ALTERNATING", alternating)
            align()
            known = [([0, 1, 1], 0)]
            if has("GIVEN_PREDICTORS", given):
                known += predictors[refers[0]]
            predictors[number] = [read_predictor() for _ in range(own)]
            known += predictors[number]
            settings = []
            scale = 0
            for predictor, has_mean in flags:
                has("PREDICTOR", predictor)
                predictor, inherited = known[predictor]
                base = bits(2)
                align()
                before = scale
                scale = read_array(columns)
                if has("BASE_PREDICTOR", base == 1):
                    scale = [value + inherited[j % len(inherited)] for j, value in enumerate(scale)]
                if has("BASE_PART", base == 2):
                    scale = [*map(sum, zip(scale, before))]
                mean = 0
                if has("MEANS", has_mean):
                    mean = torch.tensor(read_array(columns))
                settings.append(([len(scales), *predictor] if used("PREDICTOR") else [len(scales)], mean))
                scales.extend(scale if used("AVERAGES") else [place + 8 * max(0, min(classes, 2 * value - origin >> one("CLASS_SHIFT", class_shift))) for value in scale])
            key = torch.zeros(lines, dtype=int)
            if has("PARTS", len(flags) > 1):
                key = torch.tensor(read_array(lines))
            start = torch.full([lines, 1], 16384)
            if has("STARTS", has_starts):
                start = torch.tensor([[pow8(16384, value)] for value in read_array(lines)])
            if has("GIVEN", has_given):
                given_factor = torch.tensor(read_array(lines))[:, None]
            if has("REFERENCES", has_references):
                factor = read_array(lines)
                reference = torch.tensor([bits((lines - 1).bit_length()) if value else 0 for value in factor])
                factor = torch.tensor(factor)[:, None]
                align()
                level = 0 * key
                for _ in range(255):
                    level = (level[reference] + 1) * (factor[:, 0] != 0)
                key += 16 * level
            order = [chosen for value in key.unique() for chosen in (key == value).nonzero()[:, 0].split(chunk_lines)]
        else:
            parameters += [len(scales)]
            scales.extend([
                value if used("AVERAGES") else place + (2 if used("TRELLIS") else 1) * max(0, min(classes, 2 * value - origin >> one("CLASS_SHIFT", class_shift)))
                for value in read_array(columns)
            ])  # fmt: skip

        def base_of(result, chosen, mean):
            """Of these lines, by columns: what others say of them, the prediction without a predictor, and the average that they begin with."""
            low = max(-128, torch.iinfo(dtype).min)
            z = torch.zeros(len(chosen), columns, dtype=int)
            rest = 8
            if has("GIVEN", has_given):
                other = results[refers[-1]].view(-1)
                if one("GIVEN_TRANSPOSED", given_transposed):
                    other = other.view(columns, lines).T
                z += given_factor[chosen] * other.reshape(lines, columns)[chosen].clamp(low, low + 255)
                rest = rest - given_factor[chosen]
            if has("REFERENCES", has_references):
                other = factor[chosen] * result[reference[chosen]].clamp(low, low + 255)
                if has("ALTERNATING", alternating):
                    other[:, 1::2] *= -1
                z += other
                rest = rest - factor[chosen]
            return torch.stack([z, z + (rest * mean + 4 >> 3), start[chosen].expand(z.shape)])

        wave = 1
        if used("MODELS"):
            if has("GIVEN", has_given):
                wave += waves[refers[-1]]
            return columns, transposed, raw_bits, raw_min, parameters, order, key, settings, base_of, wave
        else:
            return columns, transposed, raw_bits, raw_min, parameters, chunk_lines

    # ---- Chunks ----

    def decode_chunks(chunks):
        """Chunks that do not need each other, side by side: of one row after another all lanes at once. With MODELS those of one wave, which are all of matrices or all not."""
        chunks.sort(reverse=True)  # by rows; where these are equal, by where chunks begin, so no two are equal
        count = len(chunks)
        lane = torch.arange(32)
        parameters = torch.tensor([chunk[1] for chunk in chunks])
        begin = parameters[:, :1]
        position = begin + 4 * lane
        state = words[position] | words[position + 2] << 16
        live = [state, begin + 126, 0 * begin]
        if used("MATRIX") and (not used("MODELS") or wave):
            if used("TRELLIS"):
                live += [0 * state]
            if used("AVERAGES"):
                live += [torch.zeros(count, 2, 32, dtype=int), parameters[:, 8:12].view(-1, 2, 2)]
            if used("MODELS"):
                base_row = 0 * begin
                bases = []
                for i, (rows, values, (result, chosen, _, base_of, mean)) in enumerate(chunks):
                    base = torch.nn.functional.pad(base_of(result, chosen, mean), (0, 0, 0, -len(chosen) % 32))
                    base_row[i] = sum(map(len, bases))
                    bases.append(base.view(3, -1, 32, values[7]).permute(1, 3, 0, 2).reshape(rows, 3, 32).int())
                bases = torch.cat(bases)
                live += [base_row]
            if used("PREDICTOR"):
                live += [torch.zeros(count, matrix_of_coefficients.shape[1], 32, dtype=float)]
        live += [*parameters.T[..., None]]
        tails = {}
        decoded = [state[:0].short()]
        for row in range(chunks[0][0]):
            while chunks[count - 1][0] <= row:
                count -= 1
            if used("MATRIX"):
                state, position, escaped, *others = [tensor[:count] for tensor in live]
                if not used("MODELS"):
                    if used("TRELLIS"):
                        machine, *others = others
                    if used("AVERAGES"):
                        average, pairs, *others = others
                elif wave:
                    if used("TRELLIS"):
                        machine, *others = others
                    if used("AVERAGES"):
                        average, pairs, *others = others
                    base_row, *others = others
                    if used("PREDICTOR"):
                        history, *others = others
                begin, end, size, tail, raw_bits, raw_min, lines, columns, *others = others
                if not used("MODELS") or wave:
                    if used("AVERAGES"):
                        _, _, _, _, origin, class_shift, classes, place, *others = others
                    if used("VARIES_TRELLISES"):
                        trellis, *others = others
                    if used("VARIES_ODD"):
                        odd, parity, *others = others
                    if used("TYPES"):
                        low, lowest, mask, *others = others
                if used("MODELS"):
                    first_scale, *others = others
                else:
                    (first_scale,) = others
                band = row // columns
                column = row % columns
                width = (lines - 32 * band).clamp(max=32)
                index = 32 * band * columns + column * width + lane
                inside = lane < width
                if used("MODELS"):
                    table = first_scale
                    limits = raw_min
                if not used("MODELS") or wave:
                    if used("TRELLIS"):
                        machine *= column > 0
                        bit = machine % 2
                    scale = scales[first_scale + column]
                    if used("MODELS"):
                        z, prediction, start = bases[base_row[:, 0] + row].long().unbind(1)
                        if used("PREDICTOR"):
                            first_row, period, shift = others
                            inner = column % period
                            last = int(inner.max())
                            dot = matrix_of_coefficients[first_row + inner][..., :last] @ history[:, :last]
                            prediction += (dot[:, 0].long() + (1 << shift >> 1)).int() >> shift
                        if used("TYPES"):
                            prediction = prediction.clamp(8 * low, 8 * low + 2040)
                        else:
                            prediction = prediction.clamp(-1024, 1016)
                    if used("AVERAGES"):
                        power = powers[scale]
                        average[:] = torch.where(column[..., None] > 0, average, start[:, None] if used("MODELS") else 16384)
                        logs = ((average.float().view(torch.int32) >> 19) - 2256) * pairs[..., 1:]
                        table = 2 * scale - origin + (logs.sum(1) + 4 >> 3) >> one("CLASS_SHIFT", class_shift)
                        scale = place + (8 if used("MODELS") else 2 if used("TRELLIS") else 1) * table.clamp(0 * classes, classes)
                    if used("MODELS"):
                        base = prediction
                        if used("TRELLIS"):
                            base = (prediction >> one("TRELLISES", trellis)) - 4 * bit
                        table = contexts[scale + base % 8]
                        base = base >> 3
                        limits = raw_min - base
                    elif used("TRELLIS"):
                        table = scale + bit
                        limits = raw_min + bit
                    else:
                        table = scale if used("AVERAGES") else scale + 0 * lane
                        limits = raw_min + 0 * lane
                if used("MODELS"):
                    limits = limits + 0 * lane
                    table = table + 0 * lane
            else:
                state, position, escaped, begin, end, size, tail, raw_bits, raw_min, table = [tensor[:count] for tensor in live]
                index = 32 * row + lane
            if used("MATRIX"):
                main = inside & (index < size - tail)
            else:
                main = index < size - tail
            entry = tables[table, state % 4096]
            fresh = (entry >> 12) % 4096 * (state >> 12) + entry % 4096
            hungry = main & (fresh < 65536)
            taken = position + 2 * hungry.cumsum(1)
            state[:] = torch.where(main, torch.where(hungry, fresh << 16 | words[taken], fresh), state)
            position[:] = taken[:, 31:]
            symbol = entry >> 24
            if used("ESCAPES"):
                raw = main & (symbol == ESCAPE)
                place = escaped + raw.cumsum(1) * raw_bits
                escaped[:] = place[:, 31:]
                word = end - place // 16 * 2
                symbol = torch.where(raw, (limits if used("MATRIX") else raw_min) + ((words[word] << 16 | words[word - 2]) >> 16 - place % 16) % (1 << raw_bits), symbol)
            if used("MATRIX"):
                for i, j in (inside ^ main).nonzero().tolist():
                    if i not in tails:
                        tails[i] = start_tail((state[i] if tail[i] < size[i] else words[begin[i] : end[i] : 2] + 65536).tolist())
                    symbol[i, j] = decode_tail(tails[i], tables[table[i, j]], int(raw_bits[i]), limits[i, j])
            if used("MATRIX") and (not used("MODELS") or wave):
                if used("MODELS"):
                    symbol += base
                elif used("TRELLIS"):
                    symbol -= bit
                if used("TRELLIS"):
                    machine[:] = machine >> 1 ^ bit * one("ODD", odd) ^ symbol % 2 * one("PARITY", parity) * (one("TRELLISES", trellis) if used("VARIES_TRELLISES") else 1)
                    if used("MODELS") or used("AVERAGES"):
                        symbol = (symbol << one("TRELLISES", trellis)) + bit
                if used("AVERAGES") or used("PREDICTOR"):
                    if used("TYPES"):
                        symbol = (symbol - lowest & mask) + lowest
                        value = 8 * symbol.clamp(low, low + 255)
                    else:
                        value = 8 * symbol.char().long()
                if used("PREDICTOR"):
                    history[torch.arange(count), inner[:, 0]] = (value - z).short().double()
                if used("AVERAGES"):
                    seen = ((value - prediction if used("MODELS") else value).abs() * power >> 3).clamp(max=2**17)[:, None]
                    average[:] = (average + (seen - average + (1 << pairs[..., :1] >> 1) >> pairs[..., :1])).clamp(64)
            if used("TRELLIS") and not used("MODELS") and not used("AVERAGES"):
                decoded.append(((symbol << one("TRELLISES", trellis)) + bit).short())
            else:
                decoded.append(symbol.short())
        offsets = torch.tensor([*map(len, decoded)]).cumsum(0)
        decoded = torch.cat(decoded)
        for i, (rows, values, result) in enumerate(chunks):
            if used("MODELS"):
                result[0][result[1]] = decoded[offsets[:rows] + i].view(-1, values[7], 32).mT.flatten(0, 1)[: values[6]].to(result[0].dtype)
            elif used("MATRIX"):
                result[:] = decoded[offsets[:rows] + i].view(-1, values[7], 32).mT.flatten(0, 1)[: values[6]]
            else:
                begin, end, size, tail, raw_bits, raw_min, table = values
                result[: size - tail] = decoded[offsets[:rows] + i].view(-1)[: size - tail]
                last = start_tail((live[0][i] if tail < size else words[begin:end:2] + 65536).tolist())
                slots = tables[table].tolist()
                result[size - tail :] = torch.tensor([decode_tail(last, slots, raw_bits, raw_min) for _ in range(tail)])

    # ---- Streams and the file ----

    def prepare(begin, end, numel, dtype, *refers):
        """Reads all of a stream but its chunks, which go to `chunks`; returns where its numbers will be. With MODELS this is in `results`."""
        nonlocal at
        if used("MODELS") and begin in results:
            return
        model = data[begin]
        if has("PLAIN", model < 2):
            whole = file[begin + 1 : end].clone().view(dtype).expand(numel)
        else:
            if used("MODELS"):
                for entry in refers:
                    prepare(*streams[first_streams[entry]])
            assert numel < len(data) << RATIO
            at = 8 * begin + 8
            if has("MATRIX", model == 4):
                if used("MODELS"):
                    columns, transposed, raw_bits, raw_min, parameters, order, key, settings, base_of, wave = read_matrix(numel, dtype, begin, [streams[first_streams[entry]][0] for entry in refers])
                else:
                    columns, transposed, raw_bits, raw_min, parameters, size = read_matrix(numel, dtype, 0, 0)
            else:
                size = numel
                if has("SEVERAL", model == 3):
                    size = varint()
                slots, raw_bits, raw_min = read_table(dtype.is_signed)
                table = len(tables)
                if used("MATRIX"):
                    columns = 1
                    if used("TRANSPOSED"):
                        transposed = 0
                    if used("MODELS"):
                        order = []
                        parameters = [1, len(tables)]
                        key = torch.zeros(1, dtype=int).expand(numel)
                        settings = [([], 0)]
                        base_of = wave = 0
                    else:
                        parameters = [1]
                        if used("AVERAGES"):
                            parameters += [0] * 7 + [len(tables)]
                        if used("VARIES_TRELLISES"):
                            parameters += [0]
                        if used("VARIES_ODD"):
                            parameters += [0, 0]
                        if used("TYPES"):
                            parameters += [-(2**15), -(2**15), 2**16 - 1]
                        if used("AVERAGES"):
                            parameters += [0]
                        else:
                            parameters += [len(scales)]
                            scales.append(len(tables))
                one("TRELLISES", 0)
                tables.append(torch.tensor(slots))
            if used("MATRIX"):
                result = whole = torch.empty(numel // columns, columns, dtype=dtype)
                if has("TRANSPOSED", transposed):
                    whole = torch.empty(columns, numel // columns, dtype=dtype)
                    result = whole.T
            else:
                whole = torch.empty(numel, dtype=dtype)
            if used("MODELS"):
                last = len(order) - 1 if order else (numel - 1) // size
            else:
                last = (len(result if used("TRANSPOSED") else whole) - 1) // size
            place = words_of_chunk = tail = 0
            if has("SEVERAL", last):
                words_order = bits(5)
                tail_order = bits(4)
            directory = []
            for i in range(last + 1):
                if used("SEVERAL"):
                    words_of_chunk = words_of_chunk + signed(words_order) if i < last else end
                    tail = tail + signed(tail_order) if last else bits(11)
                else:
                    words_of_chunk = end
                    tail = bits(11)
                directory.append((place, place + 2 * words_of_chunk, tail, i))
                place += 2 * words_of_chunk
            place = at + 7 >> 3
            for first, after, tail, i in directory:
                if used("MODELS"):
                    chosen = order[i] if order else slice(i * size, i * size + size)
                    piece = result[chosen]
                    value = int(key[chosen][0])
                    setting, mean = settings[value % 16]
                    waves[begin] = wave + value // 16
                    parameters_of_chunk = [*parameters, *setting]
                    target = result, chosen, waves[begin], base_of, mean
                else:
                    piece = (result if used("TRANSPOSED") else whole)[i * size :][:size]
                if used("MATRIX"):
                    chunks.append([
                        (len(piece) + 31) // 32 * columns,
                        [place + first, min(place + after, end), len(piece) * columns, tail, raw_bits, raw_min, len(piece), *(parameters_of_chunk if used("MODELS") else parameters)],
                        target if used("MODELS") else piece,
                    ])  # fmt: skip
                else:
                    chunks.append([(len(piece) - tail + 31) // 32, [place + first, min(place + after, end), len(piece), tail, raw_bits, raw_min, table], piece])
        if used("MODELS"):
            results[begin] = whole.view(-1)
        else:
            return whole.view(-1)

    chunks = []
    streams = []
    results = {}
    predictors = {}
    waves = {}
    tables = []
    contexts = []
    table_numbers = {}
    scales = []
    coefficients = [[0]]
    first_streams = []
    place = int(content[11:7:-1].hex(), 16) + 32
    if has("DEFLATED", content[5]):
        data = content + zlib.decompress(content[32:place], -15) + bytes(299)
    else:
        data = content + content[32:place] + bytes(299)
    at = 8 * len(content)
    name = b""
    names = []
    count = varint()
    for shared in varints(count):
        end = data.index(255, at // 8)
        name = name[:shared] + data[at // 8 : end]
        names.append(name.decode())
        at = 8 * end + 8
    kinds = varints(count)
    dtypes = varints(count)
    shapes = [varints(size) for size in varints(count)]
    transforms = varints(kinds.count(0))
    row_sizes = varints(kinds.count(2))
    row_bits = varints(kinds.count(2))
    exponents = varints(kinds.count(2))
    column_scaled = varints(kinds.count(2))
    if used("MODELS") or used("ALIAS"):
        refers = [[i - unfold(varint()) for _ in range(size)] for i, size in enumerate(varints(count))]
    else:
        varints(sum(varints(count)))
    if used("TEXTS"):  # structure, metadata
        for _ in range(2):
            size = varint()
            has("TEXTS", size)
            at += 8 * size
    else:
        varints(2)
    file = torch.asarray(bytearray(data), dtype=torch.uint8)
    words = file[:-1] + 256 * file[1:].long()
    entries = []
    for kind, dtype, name, shape in zip(kinds, dtypes, names, shapes):
        dtype = DTYPES[dtype]
        numel = torch.Size(shape).numel()
        specs = [(numel, torch.uint8)] * dtype.itemsize
        if has("COMPLEX", dtype.is_complex):
            specs = [(numel * 2, torch.uint8)] * (dtype.itemsize // 2)
        if has("SYMBOLS", kind == 1):
            specs = [(numel, dtype)]
        if has("QUANTIZED", kind == 2):
            size = row_sizes.pop(0)
            integers = torch.int8
            if has("INT16", row_bits.pop(0) > 8):
                integers = torch.int16
            scales_of_columns = []
            if has("COLUMN_SCALES", column_scaled.pop(0)):
                scales_of_columns = [(size, torch.int8)]
            specs = [(numel, integers), *scales_of_columns, *[(numel // size, torch.uint8)] * 2] if used("COLUMN_SCALES") else [(numel, integers), *[(numel // size, torch.uint8)] * 2]
        if has("ALIAS", kind == 3):
            specs = []
        parts = []
        entries.append((kind, dtype, name, shape, parts))
        if used("MODELS"):
            first_streams.append(len(streams))
        for numel, dtype in specs:
            end = place + 1 + numel * dtype.itemsize - unfold(varint())
            if used("MODELS"):
                streams.append([place, end, numel, dtype, *refers[len(entries) - 1]])
                parts.append(place)
            else:
                home = at
                parts.append(prepare(place, end, numel, dtype))
                at = home
            place = end
    if used("MODELS"):
        for stream in streams:
            prepare(*stream)
    if used("MATRIX"):
        if used("MODELS"):
            contexts = torch.tensor(contexts)
        scales = torch.tensor(scales)
    if used("PREDICTOR"):
        size = max(map(len, coefficients)) + 1
        matrix_of_coefficients = torch.tensor([row + [0] * (size - len(row)) for row in coefficients], dtype=float)
    if used("AVERAGES"):
        powers = torch.tensor([pow8(20534, -scale) for scale in [*range(64), *range(-32, 0)]])
    if has("CHUNKS", chunks):
        tables = torch.stack(tables)
        if used("MODELS"):
            for wave in sorted({chunk[2][2] for chunk in chunks}):
                decode_chunks([chunk for chunk in chunks if chunk[2][2] == wave])
        else:
            decode_chunks(chunks)
    state = {}
    for kind, dtype, name, shape, parts in entries:
        if used("MODELS"):
            parts = [results[begin] for begin in parts]
        if has("QUANTIZED", kind == 2):
            scale = torch.stack(parts[:-3:-1], 1).view(torch.float16)
            exponent = unfold(exponents.pop(0))
            if has("EXPONENT", exponent):
                scale = scale.double() * 2.0**exponent
            value = parts[0].view(len(scale), -1) * scale.float()
            if has("COLUMN_SCALES", len(parts) > 3):
                value *= torch.tensor([octave(c % 16) * 2.0 ** (c // 16 - 15) for c in parts[1].tolist()])
        elif has("SYMBOLS", kind == 1):
            value = parts[0]
        elif has("ALIAS", kind == 3):
            value = torch.empty(shape, dtype=dtype)
        else:
            transform = transforms.pop(0)
            if has("ROTATE", transform == 1):
                parts = [part >> 1 | parts[j - 1] << 7 for j, part in enumerate(parts)]
            value = torch.stack(parts[::-1], 1).view(-1).view(dtype)
            if has("DELTA", transform == 2):
                if has("DELTA_UNSIGNED", not dtype.is_signed):
                    signed_dtype = torch.int16 if len(parts) < 4 else torch.int32 if len(parts) < 8 else torch.int64
                    value = value.view(signed_dtype).cumsum(0).to(signed_dtype).view(dtype)
                else:
                    value = value.cumsum(0)
        state[name] = value.view(shape).to(dtype)
    if used("ALIAS"):
        for i, name in enumerate(names):
            if kinds[i] == 3:
                state[name] = state[names[refers[i][0]]]
    return state
