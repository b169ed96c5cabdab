"""The decoder that `write_decoder` makes small files of: all that BITSTREAM.md and docs/CONTAINER.md describe, in as little code as possible.

It runs as it is, too. README.md beside it says how to write here. `has(feature, condition)` marks what only some files need: the writer runs this module
on a file, hears which conditions hold, and folds all others to false. Checksums and "Corrupted if" are not checked: a damaged file gives an error or
wrong tensors, but it never runs for ever, as every loop takes bits of the file (`bits` fails behind its end) or has a limit.
"""

import zlib

import torch

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
        return (int.from_bytes(data[at // 8 - 20 : at // 8], "big") << 8 | data[at // 8]) >> 8 - at % 8 & (1 << count) - 1

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
            slots += [*range(own[b], own[b] + rest[b]), *range(others[a], others[a] + width - rest[b])]
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
            order = adjust
            p = min(2 * a, max(a >> 1, a * a // max(1, units[-2])))
            if has("MIRRORED", mirrored and 0 <= -2 * first - i < i):
                p = units[2 - 2 * first - i]
                order = mirror_adjust
            value = exp_golomb(max(0, p.bit_length() // 2 + order))
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

    def decode_tail(count, tail, slots, raw_bits, raw_min):
        """The next symbols of a tail."""
        state, words = tail

        def refill(value):
            return value << 16 | words.pop() if value < 65536 and words else value

        result = []
        for _ in range(count):
            entry = int(slots[state % 4096]) if used("MATRIX") else slots[state % 4096]
            state = refill((entry >> 12) % 4096 * (state >> 12) + entry % 4096)
            entry >>= 24
            if used("ESCAPES") and entry == ESCAPE:
                entry = raw_min + state % (1 << raw_bits)
                state = refill(state >> raw_bits)
            result.append(entry)
        if used("MATRIX"):
            tail[0] = state
        return result

    def read_directory(sizes, end):
        """(begin, end, symbols, tail) of every chunk."""
        words = tail = place = 0
        last = len(sizes) - 1
        if has("SEVERAL", last):
            words_order = bits(5)
            tail_order = bits(4)
        chunks = []
        for i, size in enumerate(sizes):
            if used("SEVERAL"):
                words = words + signed(words_order) if i < last else end
                tail = tail + signed(tail_order) if last else bits(11)
            else:
                words = end
                tail = bits(11)
            chunks.append((place, place + 2 * words, size, tail))
            place += 2 * words
        place = at + 7 >> 3
        return [[place + a, min(place + b, end), *chunk] for a, b, *chunk in chunks]

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
            return decode_tail(count, start_tail([65536 + bits(8) + bits(8) * 256 for _ in range(length)]), *table)
        order = 4
        if has("ARRAY_LISTED", mode > 0):
            order = bits(4)
            result = []
            value = 0
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
        if shape not in masses:
            power = [1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 64][shape]
            nu = 2 * power - 1 << 16
            sums = [0]
            for i in range(2048):
                factor = density = (nu << 30) // (nu + (2 * i + 1) ** 2)
                for _ in range(power - 1):
                    density = density * factor >> 30
                sums.append(sums[-1] + density)
            masses[shape] = [(value << 20) // sums[-1] for value in sums + sums[-1:]]
        total = masses[shape]
        below = []
        if has("CLAMPED", not -64 <= scale <= 127):
            scale = max(-64, min(127, scale))
        for edge in range(8 - 8 * buckets - 2 * phase, 8 * buckets - 8 - 2 * phase, 16):
            place = abs(edge) * octave(-scale % 16) >> 4 - -scale // 16
            i = min(place >> 8, 2048)
            mass = total[i] + ((total[i + 1] - total[i]) * (place & 255) >> 8)
            below.append(2**20 + (mass if edge > -1 else -mass) + 256 >> 9)
        freq = [b - a for a, b in zip(below, below[1:])]
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

    def read_matrix(end, numel, dtype, *more):
        """Returns the symbols, which come when the chunks are decoded."""
        nonlocal at
        if used("MODELS"):
            number, *refers = more
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
            scale = origin + (i << one("CLASS_SHIFT", class_shift)) + (1 << one("CLASS_SHIFT", class_shift) >> 1) + signed(2)
            if used("TRELLIS"):
                scale -= 16 * one("MATRIX_TRELLISES", min(1, trellis))
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
        parameters = [columns]
        for _ in range(2):
            rate = bits(4)
            if has("AVERAGES", rate):
                parameters += [rate + 32 * (rate > 14), bits(4) + 1]  # 15: the average stays, as it does with a shift by 47
            elif used("AVERAGES"):
                parameters += [0, 0]
        if used("AVERAGES"):
            parameters += [origin, class_shift, classes, place]
        if used("VARIES_TRELLISES"):
            parameters += [one("MATRIX_TRELLISES", min(1, trellis))]
        if used("VARIES_ODD"):
            parameters += [odd, parity]
        has("TYPES", dtype != torch.int8)
        if used("TYPES"):
            parameters += [max(-128, torch.iinfo(dtype).min), torch.iinfo(dtype).min, 256**dtype.itemsize - 1]
        plain = bits(12)  # 2720: each count and flag that follows is 0
        has("MODELS", plain != 2720)
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
            align()
            bits(2)
            align()
            parameters += [len(scales)]
            scales.extend([
                value if used("AVERAGES") else place + (2 if used("TRELLIS") else 1) * max(0, min(classes, 2 * value - origin >> one("CLASS_SHIFT", class_shift)))
                for value in read_array(columns)
            ])  # fmt: skip
            order = torch.arange(lines).split(chunk_lines)
        whole = result = torch.empty(lines, columns, dtype=dtype)
        if has("TRANSPOSED", transposed):
            whole = torch.empty(columns, lines, dtype=dtype)
            result = whole.T

        def base_of(chosen, mean):
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

        if used("MODELS"):
            waves[number] = wave = 1
            if has("GIVEN", has_given):
                wave += waves[refers[-1]]
        for chosen, chunk in zip(order, read_directory([len(chosen) * columns for chosen in order], end)):
            chunk += [raw_bits, raw_min, len(chosen), *parameters]
            if used("MODELS"):
                value = int(key[chosen[0]])
                setting, mean = settings[value % 16]
                waves[number] = wave + value // 16
                chunks.append([(len(chosen) + 31) // 32 * columns, chunk + setting, result, chosen, waves[number], base_of, mean])
            else:
                chunks.append([(len(chosen) + 31) // 32 * columns, chunk, result, chosen])
        return whole

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
                for i, (rows, values, result, chosen, _, base_of, mean) in enumerate(chunks):
                    base = torch.nn.functional.pad(base_of(chosen, mean), (0, 0, 0, -len(chosen) % 32))
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
                band = row // columns
                column = row % columns
                width = (lines - 32 * band).clamp(max=32)
                index = 32 * band * columns + column * width + lane
                inside = lane < width
                if used("MODELS"):
                    table = others[0]
                    limits = raw_min
                if not used("MODELS") or wave:
                    table = scales[others[0] + column]
                    if used("MODELS"):
                        z, prediction, start = bases[base_row[:, 0] + row].long().unbind(1)
                        if used("PREDICTOR"):
                            first_row, period, shift = others[1:]
                            inner = column % period
                            last = int(inner.max())
                            dot = matrix_of_coefficients[first_row + inner][..., :last] @ history[:, :last]
                            prediction += (dot[:, 0].long() + (1 << shift >> 1)).int() >> shift
                        if used("TYPES"):
                            prediction = prediction.clamp(8 * low, 8 * low + 2040)
                        else:
                            prediction = prediction.clamp(-1024, 1016)
                    if used("AVERAGES"):
                        power = powers[table]
                        average[:] = torch.where(column[..., None] > 0, average, start[:, None] if used("MODELS") else 16384)
                        logs = ((average.float().view(torch.int32) >> 19) - 2256) * pairs[..., 1:]
                        table = 2 * table - origin + (logs.sum(1) + 4 >> 3) >> one("CLASS_SHIFT", class_shift)
                        table = place + (8 if used("MODELS") else 2 if used("TRELLIS") else 1) * table.clamp(0 * classes, classes)
                    if used("TRELLIS"):
                        machine *= column > 0
                        bit = machine % 2
                    if used("MODELS"):
                        base = prediction
                        if used("TRELLIS"):
                            base = (prediction >> one("TRELLISES", trellis)) - 4 * bit
                        table = contexts[table + base % 8]
                        base = base >> 3
                        limits = raw_min - base
                    elif used("TRELLIS"):
                        table = table + bit
                        limits = raw_min + bit
                    else:
                        limits = raw_min + 0 * lane
                if used("MODELS"):
                    limits = limits + 0 * lane
                    table = table + 0 * lane
                elif not used("TRELLIS") and not used("AVERAGES"):
                    table = table + 0 * lane
            else:
                state, position, escaped, begin, end, size, tail, raw_bits, raw_min, table = [tensor[:count] for tensor in live]
                index = 32 * row + lane
            main = index < size - tail
            if used("MATRIX"):
                main &= inside
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
                    begin, end, size, tail, raw_bits, *_ = chunks[i][1]
                    if i not in tails:
                        tails[i] = start_tail((state[i] if tail < size else words[begin:end:2] + 65536).tolist())
                    symbol[i, j] = decode_tail(1, tails[i], tables[table[i, j]], raw_bits, int(limits[i, j]))[0]
            if used("MATRIX") and (not used("MODELS") or wave):
                if used("MODELS"):
                    symbol += base
                elif used("TRELLIS"):
                    symbol -= bit
                if used("TRELLIS"):
                    machine[:] = machine >> 1 ^ bit * one("ODD", odd) ^ symbol % 2 * one("PARITY", parity) * (one("TRELLISES", trellis) if used("VARIES_TRELLISES") else 1)
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
            decoded.append(symbol.short())
        offsets = torch.tensor([*map(len, decoded)]).cumsum(0)
        decoded = torch.cat(decoded)
        for i, (rows, values, result, *chosen) in enumerate(chunks):
            rows = decoded[offsets[:rows] + i]
            if used("MATRIX"):
                result[chosen[0]] = rows.view(-1, values[7], 32).transpose(1, 2).reshape(-1, values[7])[: values[6]].to(result.dtype)
            else:
                begin, end, size, tail, raw_bits, raw_min, table = values
                result[: size - tail] = rows.view(-1)[: size - tail]
                result[size - tail :] = torch.tensor(decode_tail(tail, start_tail((live[0][i] if tail < size else words[begin:end:2] + 65536).tolist()), tables[table].tolist(), raw_bits, raw_min))

    # ---- Streams and the file ----

    def prepare(begin, end, numel, dtype, *refers):
        """Reads all of a stream but its chunks, which go to `chunks`."""
        nonlocal at
        if used("MODELS") and begin in results:
            return
        model = data[begin]
        assert model < 2 or numel < len(data) << 15
        if has("MATRIX", model == 4):
            if used("MODELS"):
                for entry in refers:
                    prepare(*streams[first_streams[entry]])
                at = 8 * begin + 8
                result = read_matrix(end, numel, dtype, begin, *[streams[first_streams[entry]][0] for entry in refers])
            else:
                at = 8 * begin + 8
                result = read_matrix(end, numel, dtype)
        elif has("PLAIN", model < 2):
            result = file[begin + 1 : end].clone().view(dtype).expand(numel)
        else:
            at = 8 * begin + 8
            size = numel
            if has("SEVERAL", model == 3):
                size = varint()
            slots, *raw = read_table(dtype.is_signed)
            result = torch.empty(numel, dtype=dtype)
            place = 0
            if used("MODELS"):
                waves[begin] = 0
            for chunk in read_directory([min(size, numel - i) for i in range(0, numel, size)], end):
                size = chunk[2]
                chunk += raw
                if used("MATRIX"):
                    chunk += [size, 1]
                    if used("MODELS"):
                        chunks.append([(size + 31) // 32, chunk + [len(tables)], result[place : place + size, None], slice(size), 0])
                    else:
                        if used("AVERAGES"):
                            chunk += [0] * 7 + [len(tables)]
                        if used("VARIES_TRELLISES"):
                            chunk += [0]
                        if used("VARIES_ODD"):
                            chunk += [0, 0]
                        if used("TYPES"):
                            chunk += [-(2**15), -(2**15), 2**16 - 1]
                        if used("AVERAGES"):
                            chunk += [0]
                        else:
                            chunk += [len(scales)]
                            scales.append(len(tables))
                        chunks.append([(size + 31) // 32, chunk, result[place : place + size, None], slice(size)])
                else:
                    chunks.append([(size - chunk[3] + 31) // 32, chunk + [len(tables)], result[place : place + size]])
                place += size
            one("TRELLISES", 0)
            tables.append(torch.tensor(slots))
        results[begin] = result

    streams = []
    results = {}
    chunks = []
    predictors = {}
    waves = {}
    tables = []
    contexts = []
    table_numbers = {}
    masses = {}
    scales = []
    coefficients = [[0]]
    first_streams = []
    place = int.from_bytes(content[8:12], "little") + 32
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
        entries.append((kind, dtype, name, shape, len(specs)))
        if used("MODELS"):
            first_streams.append(len(streams))
        for numel, dtype in specs:
            end = place + 1 + numel * dtype.itemsize - unfold(varint())
            streams.append([place, end, numel, dtype])
            if used("MODELS"):
                streams[-1] += refers[len(first_streams) - 1]
            place = end
    file = torch.asarray(bytearray(data), dtype=torch.uint8)
    words = file[:-1] + 256 * file[1:].long()
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
            for wave in sorted({chunk[4] for chunk in chunks}):
                decode_chunks([chunk for chunk in chunks if chunk[4] == wave])
        else:
            decode_chunks(chunks)
    state = {}
    results = [results[begin].view(-1) for begin, *_ in streams]
    for kind, dtype, name, shape, count in entries:
        parts = [results.pop(0) for _ in range(count)]
        if has("QUANTIZED", kind == 2):
            scale = torch.stack(parts[:-3:-1], 1).view(torch.float16)
            exponent = unfold(exponents.pop(0))
            if has("EXPONENT", exponent):
                scale = scale.double() * 2.0**exponent
            value = parts[0].view(len(scale), -1) * scale.float()
            if has("COLUMN_SCALES", count > 3):
                value *= torch.tensor([octave(c % 16) * 2.0 ** (c // 16 - 15) for c in parts[1].tolist()])
            value = value.to(dtype)
        elif has("SYMBOLS", kind == 1):
            value = parts[0]
        elif has("ALIAS", kind == 3):
            value = torch.empty(shape)
        else:
            size = transforms.pop(0)
            if has("ROTATE", size == 1):
                parts = [part >> 1 | parts[j - 1] << 7 for j, part in enumerate(parts)]
            value = torch.stack(parts[::-1], 1).view(-1).view(dtype)
            if has("DELTA", size == 2):
                if has("DELTA_UNSIGNED", not dtype.is_signed):
                    dtype = torch.int16 if count < 4 else torch.int32 if count < 8 else torch.int64
                    value = value.view(dtype).cumsum(0).to(dtype).view(value.dtype)
                else:
                    value = value.cumsum(0).to(dtype)
        state[name] = value.view(shape)
    if used("ALIAS"):
        for i, name in enumerate(names):
            if kinds[i] == 3:
                state[name] = state[names[refers[i][0]]]
    return state
