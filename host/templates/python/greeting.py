"""What is said: plain Python, tested by `python3 -m unittest`."""


def greeting(name: str, number: int) -> str:
    return f"hello {name}, number {number}"
