"""Runs tests of Python's own and writes to a file what became of each, in the order of their names: FILE MODULE..."""
import glob
import sys
import unittest


class Outcomes(unittest.TestResult):
    """Notes one word for each test."""

    def __init__(self):
        super().__init__()
        self.words = {}

    def note(self, test, word):
        self.words[test.id()] = word

    def addSuccess(self, test):
        self.note(test, "passed")

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.note(test, "failed")

    def addError(self, test, error):
        super().addError(test, error)
        self.note(test, "failed")

    def addSkip(self, test, reason):
        self.note(test, "skipped")

    def addExpectedFailure(self, test, error):
        self.note(test, "passed")

    def addUnexpectedSuccess(self, test):
        self.note(test, "failed")


def main(path, names):
    outcomes = Outcomes()
    unittest.defaultTestLoader.loadTestsFromNames(names).run(outcomes)
    with open(path, "w") as file:
        for name, word in sorted(outcomes.words.items()):
            print(word, name, file=file)
    for test, error in outcomes.failures + outcomes.errors:
        print(test, error, sep="\n", file=sys.stderr)
    # Whether an allocator was hooked can be seen from the threads.
    for comm in glob.glob("/proc/self/task/*/comm"):
        print("thread", open(comm).read(), end="", file=sys.stderr)


# Processes that tests start import this file again.
if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
