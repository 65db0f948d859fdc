// Parquet files beside the page: ranges of them where the server has ranges, else whole files, each fetched once.
import { parquetMetadata, parquetRead } from "hyparquet";
import { decompress } from "fzstd"; // of the compressors the one that shards have; others bring WebAssembly, which the policy forbids

const compressors = { ZSTD: (input) => decompress(input) };
const KEPT_FILES = 40; // at most 8 MB each
const SMALL = 2_000_000; // bytes of files that are fetched whole where many of their row groups are wanted
const AHEAD = 6; // row groups that are fetched while one is looked at

const get = async (name, headers) => {
  const answer = await fetch(`data/${name}`, { headers }).catch(() => {
    throw new Error(`${name} can't be fetched: is the server that had this page still there?`);
  });
  if (!answer.ok) throw new Error(`the server said ${answer.status} of ${name}`);
  return answer;
};

const documents = new Map();
export const json = (name) => {
  if (!documents.has(name)) {
    const coming = get(name).then((answer) => answer.json());
    documents.set(name, coming);
    coming.catch(() => documents.delete(name)); // it is asked again
  }
  return documents.get(name);
};

/** The least recently used go first. */
class Kept extends Map {
  constructor(most) {
    super();
    this.most = most;
  }
  take(key, make) {
    const found = super.get(key) ?? make();
    this.delete(key);
    this.set(key, found);
    if (this.size > this.most) this.delete(this.keys().next().value);
    found.catch(() => this.delete(key));
    return found;
  }
}

const files = new Kept(KEPT_FILES);
const whole = (name) => files.take(name, () => get(name).then((answer) => answer.arrayBuffer()));
let ranges = null; // a promise of whether the server has them: the first answer tells

const ranged = async (name, first, end) => {
  const answer = await get(name, { Range: `bytes=${first}-${end - 1}` });
  if (answer.status === 206) return answer.arrayBuffer();
  files.take(name, () => answer.arrayBuffer());
  return null;
};

async function bytes(name, first, end) {
  if (files.has(name)) return (await whole(name)).slice(first, end);
  if (ranges === null) {
    const found = ranged(name, first, end);
    ranges = found.then((part) => part !== null, () => ((ranges = null), false));
    const part = await found;
    if (part !== null) return part;
  }
  const part = (await ranges) ? await ranged(name, first, end) : null;
  return part ?? (await whole(name)).slice(first, end);
}

/** One table: its shards one behind the other, its rows numbered through, its columns read a row group at a time. */
export class Table {
  constructor(folder, shards, kept = 4000) {
    this.folder = folder;
    this.shards = shards || [];
    this.rows = this.shards.reduce((sum, shard) => sum + shard.rows, 0);
    this.columns = new Kept(kept);
    this.footers = new Map();
  }

  /** The row groups of a shard: {shard, first, rows, meta}. */
  async groups(shard) {
    if (!this.footers.has(shard)) {
      const read = bytes(`${this.folder}/${shard.name}`, shard.bytes - shard.footer, shard.bytes).then((footer) => {
        const meta = parquetMetadata(footer);
        let first = shard.first;
        return meta.row_groups.map((group) => {
          const rows = Number(group.num_rows);
          first += rows;
          return { shard, meta, group, first: first - rows, rows };
        });
      });
      read.catch(() => this.footers.delete(shard));
      this.footers.set(shard, read);
    }
    return this.footers.get(shard);
  }

  /** The row groups that have rows from `first` to before `end`, in order. */
  async *walk(first = 0, end = this.rows) {
    for (const shard of this.shards) {
      if (shard.first + shard.rows <= first || shard.first >= end) continue;
      for (const group of await this.groups(shard)) if (group.first + group.rows > first && group.first < end) yield group;
    }
  }

  /** Columns of a row group: {name: values}; those that were read before aren't read again. */
  async read(group, names) {
    const key = (name) => `${group.first} ${name}`;
    const absent = names.filter((name) => !this.columns.has(key(name)));
    if (absent.length) {
      const found = this.#decode(group, absent);
      for (const name of absent) this.columns.take(key(name), () => found.then((columns) => columns[name]));
    }
    const columns = await Promise.all(names.map((name) => this.columns.take(key(name), () => this.#decode(group, [name]).then((one) => one[name]))));
    return Object.fromEntries(names.map((name, at) => [name, columns[at]]));
  }

  async #decode({ shard, meta, first, rows }, names) {
    const found = Object.fromEntries(names.map((name) => [name, new Array(rows)]));
    const from = first - shard.first;
    await parquetRead({
      file: { byteLength: shard.bytes, slice: (begin, end = shard.bytes) => bytes(`${this.folder}/${shard.name}`, begin, end) },
      metadata: meta,
      columns: names,
      rowStart: from,
      rowEnd: from + rows,
      compressors,
      onChunk: ({ columnName, columnData, rowStart }) => {
        if (columnData.length === rows && ArrayBuffer.isView(columnData)) { found[columnName] = columnData; return; }
        const column = found[columnName];
        for (let at = 0; at < columnData.length; at += 1) column[rowStart - from + at] = columnData[at] ?? null;
      },
    });
    return found;
  }

  /** Row groups with their columns, some fetched ahead; `fits(group)` leaves out those that can't have anything. */
  async *scan(names, { first = 0, end = this.rows, fits = () => true, signal } = {}) {
    const waiting = [];
    for await (const group of this.walk(first, end)) {
      signal?.throwIfAborted();
      if (!fits(group)) continue;
      if (group.shard.bytes <= SMALL) whole(`${this.folder}/${group.shard.name}`).catch(() => undefined);
      const columns = this.read(group, names);
      columns.catch(() => undefined);
      waiting.push([group, columns]);
      if (waiting.length > AHEAD) yield await settled(waiting.shift());
    }
    for (const one of waiting) {
      signal?.throwIfAborted();
      yield await settled(one);
    }
  }

  /** Some rows as objects, in the order of their numbers. */
  async rowsAt(numbers, names) {
    const found = new Map();
    if (!numbers.length) return [];
    const wanted = [...numbers].sort((a, b) => a - b);
    const reads = [];
    let at = 0;
    for await (const group of this.walk(wanted[0], wanted.at(-1) + 1)) {
      const mine = [];
      while (at < wanted.length && wanted[at] < group.first + group.rows) mine.push(wanted[at++]);
      if (!mine.length) continue;
      const read = this.read(group, names).then((columns) => mine.forEach((row) => found.set(row, Object.fromEntries(names.map((name) => [name, columns[name][row - group.first]])))));
      read.catch(() => undefined); // it is heard below, unless the walk fails before
      reads.push(read);
    }
    await Promise.all(reads);
    return numbers.map((number) => found.get(number)).filter(Boolean);
  }
}

const settled = async ([group, columns]) => [group, await columns];

/** What a row group's statistics say of a column: {low, high}, undefined where they say nothing; {none} if all is null. */
export const bounds = (group, name) => {
  const chunk = group.group.columns.find((one) => one.meta_data.path_in_schema[0] === name);
  const said = chunk?.meta_data.statistics;
  if (!said) return undefined;
  if (Number(said.null_count) === group.rows) return { none: true };
  const [low, high] = [said.min_value ?? said.min, said.max_value ?? said.max];
  return low === undefined || high === undefined ? undefined : { low, high };
};
