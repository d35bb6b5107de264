// The codecs on offer, asked for until the server answers.

const CODECS_PATH = "v1/codecs"; // beside the page
const ANSWER_SECONDS = 5;
const FIRST_WAIT = 1, MOST_WAIT = 10; // seconds between attempts

// Their facts, as welcome has them. failed() is called after each attempt that brought none.
// fetch, setTimeout: of the browser.
export async function codecsOnOffer(failed, { fetch, setTimeout } = globalThis) {
  for (let wait = FIRST_WAIT; ; wait = Math.min(2 * wait, MOST_WAIT)) {
    try {
      const answer = await fetch(CODECS_PATH, { cache: "no-store", signal: AbortSignal.timeout(1000 * ANSWER_SECONDS) });
      if (answer.ok) return (await answer.json()).codecs;
    } catch {
      // told below
    }
    failed();
    await new Promise((go) => setTimeout(go, 1000 * wait));
  }
}
