"""What a history must be, said in the plainest way: a function of the set of
records and extracts, walked instant by instant.  It knows nothing of how the
extension remembers, merges or writes.

A record is a dict: k, at (an instant, any ordered value), tie, a, b, n, f,
deleted.  a and b are tracked (type 2), n is overwritten (type 1), f is fixed
(type 0).  A column that the record's source lacked is not in it.
An extract is (at, {k: [records]}).
"""

TRACKED = ("a", "b", "c")
COMPARED = TRACKED + ("n", "op")


def order(record):
    return (record["at"], record.get("tie") or 0)


def differs(one, other, columns=TRACKED):
    """Do columns that both know differ?"""
    return any(one[c] != other[c] for c in columns if c in one and c in other)


def rank(record, columns, hashes):
    """What decides between records that contradict each other: the sum of
    their columns' hashes, a signed number of 64 bits; NULL counts nothing."""
    total = sum(hashes[c][record[c]] for c in columns if record.get(c) is not None)
    return (total + 2**63) % 2**64 - 2**63


def together(records, hashes):
    """What records of one sequence say together."""
    best = {}
    for record in records:
        known = frozenset(c for c in COMPARED if c in record)
        candidate = (rank(record, TRACKED, hashes), rank(record, COMPARED, hashes), record)
        if known not in best or candidate[:2] > best[known][:2]:
            best[known] = candidate
    most = [known for known in best if not any(known < other for other in best)]
    result = {}
    for known in sorted(most, key=lambda known: (len(known), best[known][:2]), reverse=True):
        record = best[known][2]
        if not differs(result, record, COMPARED):
            result = {**record, **result}
    fixed = [record["f"] for record in records if "f" in record]
    result.pop("f", None)
    if fixed:
        result["f"] = max(fixed, key=lambda value: hashes["f"][value])
    return result


def one_of_each(records, hashes):
    """One record of each sequence of a key, in order; a delete comes after
    the records of its sequence."""
    groups = {}
    for record in records:
        groups.setdefault((*order(record), record["deleted"]), []).append(record)
    return [dict(group[0]) if key[-1] else together(group, hashes) for key, group in sorted(groups.items(), key=lambda item: item[0])]


def saw(extract, k, hashes):
    """What the extract saw of the key: its latest record up to its time."""
    rows = [row for row in extract[1].get(k, []) if row["at"] <= extract[0]]
    if not rows:
        return None
    row = max(rows, key=lambda r: (order(r), r["deleted"], rank(r, TRACKED, hashes)))
    return None if row["deleted"] else row


def versions(records, extracts, k, deletes, hashes):
    """The versions of a key: dicts with from, to (None: open), is_deleted."""
    facts = one_of_each(records, hashes)
    sightings = {}
    for extract in sorted(extracts, key=lambda e: e[0]):
        row = saw(extract, k, hashes)
        other = sightings.get(extract[0])
        if row and other:
            row = max(row, other, key=lambda r: (rank(r, TRACKED, hashes), [c in r for c in TRACKED]))
        sightings[extract[0]] = row or other
    at_instant = {fact["at"]: fact for fact in facts}  # the last of each
    result = []
    current = None

    def close(at):
        nonlocal current
        if current:
            current["to"] = at
        current = None

    def begin(at, record, **more):
        nonlocal current
        close(at)
        current = {**record, "from": at, "to": None, "is_deleted": False, **more}
        result.append(current)

    def end(at):
        if current and not current["is_deleted"]:
            if deletes == "new_record":
                begin(at, current, is_deleted=True)
            else:
                close(at)

    for at in sorted(set(at_instant) | set(sightings)):
        fact = at_instant.get(at)
        alive = current and not current["is_deleted"]
        if fact and fact["deleted"]:
            end(at)
        elif fact:
            if alive and not differs(current, fact):
                for column, value in fact.items():
                    if column not in current or column == "n":
                        current[column] = value
            else:
                begin(at, fact)
        elif sightings[at] is None:
            end(at)
        elif not alive or differs(current, sightings[at]):
            known = [f for f in facts if f["at"] <= at and not f["deleted"]]
            same = [f for f in known if not differs(f, sightings[at])]
            effective = [f for f in known if at_instant[f["at"]] is f]
            if same:
                begin(at, same[-1])
            elif effective and not alive:
                begin(at, effective[-1])
    first = next((f["f"] for f in facts if not f["deleted"] and "f" in f), None)
    for version in result:
        version["f"] = first
    return result


def as_of(found, at):
    """The version valid at an instant, or None."""
    for version in found:
        if version["from"] <= at and (version["to"] is None or at < version["to"]):
            return None if version["is_deleted"] else version
    return None
