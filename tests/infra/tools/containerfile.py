"""Writes the instructions of a Containerfile as a list of [instruction, value], continued lines joined."""

import json
import sys

from dockerfile_parse import DockerfileParser

with open(sys.argv[1], "rb") as file:
    structure = DockerfileParser(fileobj=file).structure
json.dump([[found["instruction"], found["value"]] for found in structure], sys.stdout)
