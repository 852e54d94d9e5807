// A marketplace in JavaScript: the mock rules under the name `javascript`.
import { log } from "wharf:plugin/log@0.1.0";

const isDigit = (character) => character >= "0" && character <= "9";

/** The 64-bit FNV-1a hash of the text's UTF-8 bytes. */
function fnv1a(text) {
  let hash = 0xcbf29ce484222325n;
  for (const [byte] of encodeURIComponent(text).matchAll(/%..|./g)) {
    const code = byte.length === 3 ? parseInt(byte.slice(1), 16) : byte.charCodeAt(0);
    hash = BigInt.asUintN(64, (hash ^ BigInt(code)) * 0x100000001b3n);
  }
  return hash;
}

function order({ receipt, currency, now }) {
  const hash = fnv1a(receipt);
  const cents = Number(1000n + (hash % 99000n));
  return {
    id: `order-${hash.toString(16).padStart(16, "0")}`,
    // A decimal text, never a float: the host keeps money exact.
    amount: `${Math.floor(cents / 100)}.${String(cents % 100).padStart(2, "0")}`,
    currency,
    importedAt: now,
  };
}

export const adapter = {
  describe() {
    return {
      marketplace: "javascript",
      displayName: "JavaScript example",
      version: "0.1.0",
      wantedOrigins: [],
      configKeys: [],
      credentials: [],
    };
  },

  validate(request) {
    const [first = "", last = ""] = request.receipt.slice(-2).padStart(2, " ");
    if (isDigit(first) && isDigit(last) && (Number(first) + Number(last)) % 6 === 0) {
      log("debug", "asked too often");
      throw { tag: "rate-limited", val: 60 };
    }
    if (isDigit(last) && Number(last) % 2 === 1) {
      return { tag: "accepted", val: order(request) };
    }
    return { tag: "rejected", val: "the marketplace knows no such receipt" };
  },
};
