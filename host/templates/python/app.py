"""Greets whoever an event names, and counts the greetings."""

import json

from componentize_py_types import Err
from greeting import greeting
from wit_world import WitWorld as World
from wit_world.imports import log, state
from wit_world.imports.types import Event, Failure_Reject

TABLE = "{{name}}"


class WitWorld(World):
    async def handle(self, event: Event) -> None:
        try:
            name = json.loads(event.data)["name"]
        except (ValueError, KeyError, TypeError) as wrong:
            # Never tried again: the same event would fail the same way.
            raise Err(Failure_Reject(f"no name to greet: {wrong!r}"))
        before = await state.get(TABLE, name)
        number = int(before.value) + 1 if before else 1
        state.put(TABLE, name, str(number).encode(), state.Condition_None_())
        log.write(log.Level.INFO, greeting(name, number))
