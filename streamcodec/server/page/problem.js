// What ends a run, or keeps it from starting: a code for which sentences.js has a sentence.

export class Problem extends Error {
  constructor(code) {
    super(code);
    this.name = "Problem";
    this.code = code;
  }
}

// What `promise` gives; a Problem of this code where it fails, or takes longer than so many seconds.
export async function within(seconds, code, promise) {
  let timer = null;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Problem(code)), 1000 * seconds);
  });
  try {
    return await Promise.race([promise, late]);
  } catch {
    throw new Problem(code);
  } finally {
    clearTimeout(timer);
  }
}
