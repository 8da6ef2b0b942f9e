import assert from 'node:assert';
import test from 'node:test';
import { greeting } from './greeting.js';

test('a greeting names whom it greets and counts', () => {
  assert.strictEqual(greeting('ada', 2), 'hello ada, number 2');
});
