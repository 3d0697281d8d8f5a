"""What a history must be, said in the plainest way: a function of the set of
records and extracts, walked instant by instant.  It knows nothing of how the
extension remembers, merges or writes.

A record is a dict: k, at (an instant, any ordered value), tie, a, b, n, f,
deleted.  a and b are tracked (type 2), n is overwritten (type 1), f is fixed
(type 0).  A column that the record's source lacked is not in it.
An extract is (at, {k: [records]}).
"""

TRACKED = ("a", "b", "c")


def order(record):
    return (record["at"], record.get("tie") or 0)


def differs(one, other):
    """Do tracked columns that both know differ?"""
    return any(one[c] != other[c] for c in TRACKED if c in one and c in other)


def tracked(record):
    return tuple(record.get(c) for c in TRACKED)


def one_of_each(records, rank):
    """The records of a key, one of each sequence, in its order; a delete
    comes after the record of its sequence."""
    chosen = {}
    for record in records:
        key = (*order(record), record["deleted"])
        other = chosen.get(key)
        if other is None or record["deleted"]:
            chosen[key] = dict(record)
        elif differs(record, other):
            winner, loser = sorted((dict(record), other), key=lambda r: -rank(tracked(r)))
            chosen[key] = {**winner, **{c: loser[c] for c in ("f",) if c in loser and c not in winner}}
        else:
            chosen[key] = {**record, **other}
    return [chosen[key] for key in sorted(chosen)]


def saw(extract, k, rank):
    """What the extract saw of the key: its latest record up to its time."""
    rows = [row for row in extract[1].get(k, []) if row["at"] <= extract[0]]
    if not rows:
        return None
    row = max(rows, key=lambda r: (order(r), r["deleted"], rank(tracked(r))))
    return None if row["deleted"] else row


def versions(records, extracts, k, deletes, rank):
    """The versions of a key: dicts with from, to (None: open), is_deleted."""
    facts = one_of_each(records, rank)
    sightings = {}
    for extract in sorted(extracts, key=lambda e: e[0]):
        row = saw(extract, k, rank)
        other = sightings.get(extract[0])
        if row and other:
            row = max(row, other, key=lambda r: rank(tracked(r)))
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
