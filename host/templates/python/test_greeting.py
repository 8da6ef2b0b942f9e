import unittest

from greeting import greeting


class Greeting(unittest.TestCase):
    def test_a_greeting_names_whom_it_greets_and_counts(self):
        self.assertEqual(greeting("ada", 2), "hello ada, number 2")
