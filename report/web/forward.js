// The Transformer of veneer.models.transformer for compiled models: no norm, ReLU, every weight as it was
// saved. What it gives agrees with PyTorch to 1e-4 of a logit; a test holds both against each other.

// Weights as float32 in base64, in the order in which samples.py packs them.
function unpackModel(text, shape) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const all = new Float32Array(bytes.buffer);
  const inner = shape.heads * shape.key_size;
  let at = 0;
  const take = (rows, columns) => ({ rows, columns, values: all.subarray(at, (at += rows * columns)) });
  const linear = (rows, columns) => ({ weight: take(rows, columns), bias: take(1, columns) });
  return {
    shape,
    tokens: take(shape.vocabulary, shape.width), positions: take(shape.positions, shape.width),
    blocks: Array.from({ length: shape.blocks }, () => ({
      query: linear(shape.width, inner), key: linear(shape.width, inner), value: linear(shape.width, inner),
      output: linear(inner, shape.width), mlpIn: linear(shape.width, shape.mlp_width), mlpOut: linear(shape.mlp_width, shape.width),
    })),
    unembedding: take(shape.width, shape.classes),
  };
}

// Rows of x times a matrix, and a bias.
function times(x, { weight, bias }) {
  return x.map((row) => {
    const sums = bias ? Float64Array.from(bias.values) : new Float64Array(weight.columns);
    for (let i = 0; i < weight.rows; i++) {
      const own = row[i], start = i * weight.columns;
      if (own !== 0) for (let j = 0; j < weight.columns; j++) sums[j] += own * weight.values[start + j];
    }
    return sums;
  });
}

const plus = (a, b) => a.map((row, i) => row.map((value, j) => value + b[i][j]));

function softmax(values) {
  const most = Math.max(...values), shares = values.map((value) => Math.exp(value - most));
  const sum = shares.reduce((a, b) => a + b, 0);
  return shares.map((share) => share / sum);
}

// Logits at the answer's position, and its attention: [block][head][position].
function forward(model, ids, answer) {
  const { shape } = model, { heads, key_size: size } = shape;
  let x = ids.map((id, place) => Float64Array.from({ length: shape.width }, (_, j) =>
    model.tokens.values[id * shape.width + j] + model.positions.values[place * shape.width + j]));
  const attention = [];
  for (const block of model.blocks) {
    const [q, k, v] = [block.query, block.key, block.value].map((layer) => times(x, layer));
    const mixed = x.map(() => new Float64Array(heads * size)), own = [];
    for (let head = 0; head < heads; head++) {
      const from = head * size;
      for (let place = 0; place < x.length; place++) {
        const seen = shape.causal ? place + 1 : x.length;
        const shares = softmax(Array.from({ length: seen }, (_, other) => {
          let product = 0;
          for (let j = from; j < from + size; j++) product += q[place][j] * k[other][j];
          return product / Math.sqrt(size);
        }));
        shares.forEach((share, other) => { for (let j = from; j < from + size; j++) mixed[place][j] += share * v[other][j]; });
        if (place === answer) own.push(shares);
      }
    }
    attention.push(own);
    x = plus(x, times(mixed, block.output));
    x = plus(x, times(times(x, block.mlpIn).map((row) => row.map((value) => Math.max(0, value))), block.mlpOut));
  }
  return { logits: [...times([x[answer]], { weight: model.unembedding })[0]], attention };
}
