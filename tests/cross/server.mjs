// The same as server.c for a WebAssembly library, under node: see there for the commands.
import fs from 'node:fs';
import { WASI } from 'node:wasi';

const [library, weightsFile] = process.argv.slice(2);
const wasi = new WASI({ version: 'preview1' });
const { instance } = await WebAssembly.instantiate(fs.readFileSync(library), wasi.getImportObject());
wasi.initialize(instance);
const model = instance.exports;

const bytes = (at, size) => new Uint8Array(model.memory.buffer, at, size); // anew each time: memory grows
const words = (at) => new DataView(model.memory.buffer, at);
const chunk = Buffer.alloc(1 << 20);

function take(size) {
  const whole = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    let count = 0;
    try {
      count = fs.readSync(0, whole, at, size - at, null);
    } catch (problem) {
      if (problem.code === 'EAGAIN') continue;
      throw problem;
    }
    if (count === 0) process.exit(0); // the other end is gone
    at += count;
  }
  return whole;
}

function give(data) {
  for (let at = 0; at < data.length; ) {
    try {
      at += fs.writeSync(1, data, at, data.length - at);
    } catch (problem) {
      if (problem.code !== 'EAGAIN') throw problem;
    }
  }
}

const number = () => Number(take(8).readBigInt64LE());
function giveNumber(value) {
  chunk.writeBigInt64LE(BigInt(value));
  give(chunk.subarray(0, 8));
}

const owned = new Map(); // aligned address -> what malloc gave
function room(size) {
  const raw = model.malloc(size + 64);
  if (raw === 0) throw new Error(`no memory for ${size} bytes`);
  const at = (raw + 63) & ~63;
  owned.set(at, raw);
  return at;
}
function release(at) {
  model.free(owned.get(at));
  owned.delete(at);
}

function place(data) {
  const at = room(data.length);
  bytes(at, data.length).set(data);
  return at;
}

const weights = place(fs.readFileSync(weightsFile));
let prefix = '';
let context = 0;

function pointers(values) {
  const at = room(4 * Math.max(1, values.length));
  values.forEach((value, i) => words(at + 4 * i).setUint32(0, value, true));
  return at;
}

function create() {
  prefix = take(127).toString('latin1').replace(/\0.*/s, '');
  const offset = number();
  const threads = number();
  const cell = pointers([0]);
  const status = model[`${prefix}_create`](weights + offset, threads, cell);
  context = words(cell).getUint32(0, true);
  release(cell);
  giveNumber(status);
}

function perform() {
  const inputs = Array.from({ length: number() }, () => place(take(number())));
  const sizes = Array.from({ length: number() }, () => number());
  const outputs = sizes.map((size) => room(size < 0 ? 4 : size));
  sizes.forEach((size, i) => bytes(outputs[i], size < 0 ? 4 : size).fill(size < 0 ? 0 : 0xa5));
  const tables = [pointers(inputs), pointers(outputs)];
  const status = model[`${prefix}_run`](context, ...tables);
  giveNumber(status);
  sizes.forEach((size, i) => {
    if (status !== 0) return;
    if (size < 0) giveNumber(words(outputs[i]).getUint32(0, true));
    else give(Buffer.from(bytes(outputs[i], size)));
  });
  [...inputs, ...outputs, ...tables].forEach(release);
}

for (;;) {
  const command = number();
  if (command === 1) create();
  else if (command === 2) perform();
  else if (command === 3) {
    const at = number();
    give(Buffer.from(bytes(at, number())));
    model.free(at);
  } else process.exit(7);
}
