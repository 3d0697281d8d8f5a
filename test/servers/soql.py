"""A subset of SoQL, Socrata's query language: parsing and evaluating.

parse(text) gives a function of a row (a dict; a null is a missing key) for a
$where; where_keyset recognises the condition that continues a keyset, which
the server answers from its index.  Errors carry Socrata's own codes.
"""

import re


class SoqlError(Exception):
    """An error with the code and the data that Socrata would give."""

    def __init__(self, code, message, **data):
        super().__init__(message)
        self.code = code
        self.data = data


TOKEN = re.compile(r"""\s*(?:
    (?P<string>'(?:[^']|'')*') |
    (?P<number>-?\d+(?:\.\d+)?) |
    (?P<name>[:@A-Za-z_][:@A-Za-z0-9_]*) |
    (?P<op><=|>=|!=|<>|[=<>(),*])
)""", re.VERBOSE)

KEYWORDS = {"and", "or", "not", "in", "is", "null", "between", "like", "asc", "desc", "as", "true", "false"}


def tokenize(text):
    """A list of (kind, value); keywords are of kind 'word'."""
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = TOKEN.match(text, position)
        if not match:
            raise SoqlError("query.compiler.malformed", "Unexpected character at %d of: %s" % (position, text), query=text)
        kind, value = match.lastgroup, match.group(match.lastgroup)
        if kind == "string":
            value = value[1:-1].replace("''", "'")
        elif kind == "name" and value.lower() in KEYWORDS:
            kind, value = "word", value.lower()
        tokens.append((kind, value))
        position = match.end()
    tokens.append(("end", ""))
    return tokens


class Parser:
    """Recursive descent; an expression is a tuple, its operator first."""

    def __init__(self, text, columns):
        self.text, self.columns = text, columns
        self.tokens, self.position = tokenize(text), 0

    def next(self):
        self.position += 1
        return self.tokens[self.position - 1]

    def take(self, *wanted):
        """The next token's value if it is one of these operators or words."""
        kind, value = self.tokens[self.position]
        if kind in ("op", "word") and value in wanted:
            self.position += 1
            return value
        return None

    def expect(self, wanted):
        if not self.take(wanted):
            self.fail()

    def fail(self):
        raise SoqlError("query.compiler.malformed", "Unexpected %r in: %s" % (self.tokens[self.position][1], self.text), query=self.text)

    def column(self, name):
        if name not in self.columns:
            raise SoqlError("query.soql.no-such-column", "Query coordinator error: query.soql.no-such-column; No such column: %s" % name,
                            column=name, query=self.text)
        return name

    def expression(self):
        left = self.conjunction()
        while self.take("or"):
            left = ("or", left, self.conjunction())
        return left

    def conjunction(self):
        left = self.negation()
        while self.take("and"):
            left = ("and", left, self.negation())
        return left

    def negation(self):
        return ("not", self.negation()) if self.take("not") else self.comparison()

    def comparison(self):
        if self.take("("):
            inner = self.expression()
            self.expect(")")
            return inner
        kind, value = self.next()
        if kind == "name" and value == "starts_with":
            self.expect("(")
            left = self.operand()
            self.expect(",")
            right = self.operand()
            self.expect(")")
            return ("starts_with", left, right)
        self.position -= 1
        left = self.operand()
        operator = self.take("=", "!=", "<>", "<", "<=", ">", ">=")
        if operator:
            return (operator, left, self.operand())
        negated = bool(self.take("not"))
        if self.take("between"):
            low = self.operand()
            self.expect("and")
            test = ("and", (">=", left, low), ("<=", left, self.operand()))
        elif self.take("like"):
            test = ("like", left, self.operand())
        elif self.take("in"):
            self.expect("(")
            values = [self.operand()]
            while self.take(","):
                values.append(self.operand())
            self.expect(")")
            test = ("in", left, values)
        elif not negated and self.take("is"):
            negated = bool(self.take("not"))
            self.expect("null")
            test = ("null", left)
        else:
            return self.fail()
        return ("not", test) if negated else test

    def operand(self):
        kind, value = self.next()
        if kind == "name":
            return ("column", self.column(value))
        if kind in ("string", "number"):
            return ("value", value)
        if kind == "word" and value in ("true", "false"):
            return ("value", value == "true")
        self.position -= 1
        return self.fail()

    def end(self):
        if self.tokens[self.position][0] != "end":
            self.fail()


NUMBER = re.compile(r"-?\d+(\.\d+)?$")
FLOATING = re.compile(r"\d{4}-\d\d-\d\d(T[\d:.]+)?$")


def comparable(value, column_type):
    """A value as its column compares it; instants as equally long strings."""
    if column_type == "number":
        if not NUMBER.match(str(value)):
            raise SoqlError("query.soql.type-mismatch", "Not a number: %s" % value)
        return float(value)
    if column_type in ("fixed_timestamp", "floating_timestamp"):
        day, _, time = str(value).rstrip("Z").partition("T")
        time = time or "00:00:00"
        seconds, _, fraction = time.partition(".")
        return "%sT%s.%s" % (day, seconds, (fraction + "000000")[:6])
    return value


def like(pattern):
    return re.compile(re.escape(pattern).replace("%", ".*").replace("_", "."), re.DOTALL).fullmatch


COMPARE = {
    "=": lambda a, b: a == b, "!=": lambda a, b: a != b, "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}


def evaluate(node, columns):
    """A function of a row: True, False or, for unknown, None."""
    operator = node[0]
    if operator == "and":
        left, right = evaluate(node[1], columns), evaluate(node[2], columns)
        return lambda row: left(row) and right(row)
    if operator == "or":
        left, right = evaluate(node[1], columns), evaluate(node[2], columns)
        return lambda row: left(row) or right(row)
    if operator == "not":
        inner = evaluate(node[1], columns)
        return lambda row: None if inner(row) is None else not inner(row)
    kind, name = node[1]
    if kind != "column":
        raise SoqlError("query.compiler.malformed", "The left side must be a column")
    column_type = columns[name]
    if operator == "null":
        return lambda row: name not in row
    if operator == "in":
        wanted = {comparable(value, column_type) for _, value in node[2]}
        return lambda row: name in row and comparable(row[name], column_type) in wanted
    value = node[2][1]
    if operator == "starts_with":
        return lambda row: name in row and row[name].startswith(value)
    if operator == "like":
        matches = like(value)
        return lambda row: name in row and bool(matches(row[name]))
    wanted, compare = comparable(value, column_type), COMPARE[operator]
    return lambda row: compare(comparable(row[name], column_type), wanted) if name in row else None


def parse_where(text, columns):
    """The expression of a $where."""
    parser = Parser(text, columns)
    node = parser.expression()
    parser.end()
    return node


def keyset_after(node):
    """(a, v, b, w) where the condition is a > v OR (a = v AND b > w)."""
    if node[0] == "or" and node[1][0] == ">" and node[2][0] == "and" and node[2][1][0] == "=" and node[2][2][0] == ">" \
            and node[1][1] == node[2][1][1] and node[1][2] == node[2][1][2]:
        return node[1][1][1], node[1][2][1], node[2][2][1][1], node[2][2][2][1]
    return None


def parse_order(text, columns):
    """[(column, descending)] of an $order."""
    parser, result = Parser(text, columns), []
    while True:
        kind, name = parser.next()
        if kind != "name":
            parser.position -= 1
            parser.fail()
        parser.column(name)
        result.append((name, parser.take("asc", "desc") == "desc"))
        if not parser.take(","):
            break
    parser.end()
    return result


def parse_select(text, columns):
    """[(function, column, alias)] of a $select; function None is the column."""
    result = []
    for part in text.split(","):
        part = part.strip()
        match = re.fullmatch(r"(?:(count|max|min)\(\s*([^)]*?)\s*\)|([:@\w*]+))(?:\s+as\s+(\w+))?", part, re.IGNORECASE)
        if not match:
            raise SoqlError("query.compiler.malformed", "Cannot read %r in $select" % part, query="select " + text)
        function, argument, name, alias = match.groups()
        if function:
            if argument != "*":
                Parser(argument, columns).column(argument)
            result.append((function.lower(), argument, alias or "%s_%s" % (function.lower(), argument) if argument != "*" else alias or "count"))
        elif name in ("*", ":*"):
            result += [(None, c, c) for c in columns if (c.startswith(":") and not c.startswith(":@")) == (name == ":*")]
        else:
            result.append((None, Parser(name, columns).column(name), alias or name))
    return result
