"""The fuzz targets build, and find nothing in a few seconds each from their
corpus.  test/fuzz/run runs them for longer; with VISAGE_LONG=1 a minute."""

import os
import subprocess
import tempfile
import unittest

import house

TRY = "int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) {return d && n ? 0 : 0;}"


def has_fuzzer():
    with tempfile.TemporaryDirectory() as directory:
        return subprocess.run(["clang", "-fsanitize=fuzzer,address,undefined", "-x", "c", "-", "-o",
                               os.path.join(directory, "try")], input=TRY.encode(), capture_output=True,
                              check=False).returncode == 0


class Fuzz(unittest.TestCase):
    @unittest.skipUnless(has_fuzzer(), "no libFuzzer: install clang and libclang-rt-dev")
    def test_targets(self):
        seconds = "60" if os.environ.get("VISAGE_LONG") else "3"
        run = subprocess.run([os.path.join(house.SOURCE, "test", "fuzz", "run"), "--seconds", seconds],
                             capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertGreaterEqual(run.stdout.count("\tok\t"), 2, run.stdout)


if __name__ == "__main__":
    unittest.main()
