"""A model's image, read and changed: the structures of src/model/image.h."""

import struct

SIZE = 8
CHECKSUM = 12  # CRC-32C of all that follows the field
BODY = 16
HEADER = ("task algorithm input_count inputs slot_count origins step_count steps output_count outputs scores score raw raw_count choice zero"
          " score_steps flags").split()
STEP = "op flags out count a b c width data data_count".split()
STEP_SIZE = 48
TERM_SIZE = 56
TERM_CENTER = 24
TREES = ("flags aggregate output_count tree_count trees node_count nodes covers leaf_count leaf_width leaves base word_count words linear"
         " coefficient_count coefficients dense_count dense order ranked_count ranked threshold_count thresholds rank_width rank_tests paths"
         " heads").split()
TREE = "root node_count depth first_leaf leaf_count output dense unused".split()
RANKED = "slot low pivots strides".split()
STRIDE = 16  # thresholds
APART = 64  # bytes from one array of a tree's tests to the next
FLOAT32 = 1  # flag of an ensemble


def crc32c_of(byte):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


CRC32C = [crc32c_of(byte) for byte in range(256)]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC32C[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def sealed(body):
    """The image with its checksum made right again."""
    struct.pack_into("=I", body, CHECKSUM, crc32c(body[BODY:]))
    return bytes(body)


class Image:
    def __init__(self, data):
        self.data = bytearray(data)
        header = self.fields(HEADER, BODY)
        self.steps = [self.fields(STEP, header["steps"] + i * STEP_SIZE) for i in range(header["step_count"])]

    def fields(self, names, offset):
        return dict(zip(names, struct.unpack_from("=%dI" % len(names), self.data, offset)))

    def sealed(self):
        struct.pack_into("=I", self.data, SIZE, len(self.data))
        return sealed(self.data)


class RankedImage(Image):
    """An image that holds an ensemble."""

    def __init__(self, data):
        super().__init__(data)
        # the operation with the largest number
        self.at = max(self.steps, key=lambda step: step["op"])["data"]
        self.trees = self.fields(TREES, self.at)
        self.ranked = [self.fields(RANKED, self.trees["ranked"] + 4 * len(RANKED) * i) for i in range(self.trees["ranked_count"])]

    def set(self, name, value):
        """A field of the ensemble."""
        struct.pack_into("=I", self.data, self.at + 4 * TREES.index(name), value)

    def tree(self, number):
        return self.fields(TREE, self.trees["trees"] + 4 * len(TREE) * number)

    def threshold_at(self, ranked, number):
        """The offset of a ranked slot's threshold, padding included."""
        return self.trees["thresholds"] + 8 * (ranked["pivots"] + STRIDE + number)

    def tests_at(self, number, array):
        """The offset of one of the four arrays of a tree's tests."""
        pair, byte = divmod(number * self.trees["rank_width"], APART)
        return self.trees["rank_tests"] + (4 * pair + array) * APART + byte
