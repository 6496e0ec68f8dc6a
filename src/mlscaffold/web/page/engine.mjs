// What answers the page: `mlscaffold web` on this machine, which src/mlscaffold/web/server.py is.

const KEPT = "mlscaffold-token"; // in this tab alone, so that loading the page again does no harm
let token = "";

/** Why nothing was answered; `lost` where there is no server to ask, or not the one this page is of. */
export class Refused extends Error {
  constructor(message, lost = false) {
    super(message);
    this.lost = lost;
  }
}

/** What stands in an address beside a token, or the key that gives it once. */
export const withoutToken = (fragment) =>
  fragment.split("&").filter((part) => part && !/^(token|key)=/.test(part)).join("&");

/** Take the token from the fragment of the page's address, or the one that this tab has already. */
export async function connect(fragment) {
  const parts = fragment.split("&");
  const value = (name) => parts.find((part) => part.startsWith(`${name}=`))?.slice(name.length + 1);
  token = value("token") ?? sessionStorage.getItem(KEPT) ?? "";
  if (value("key")) {
    token = value("key");
    try {
      token = (await (await ask("token", {})).json()).token;
    } catch (error) {
      token = sessionStorage.getItem(KEPT) ?? "";
      if (!token) throw error;
    }
  }
  sessionStorage.setItem(KEPT, token);
}

export const begin = async () => (await ask("begin", {})).json();
export const preview = async (given) => (await ask("preview", { given })).json();
export const readLink = async (link) => (await ask("link", { link })).json();
export const archive = async (given) => (await ask("zip", { given })).blob();
export const make = async (given, folder) => (await ask("make", { given, folder })).json();

async function ask(what, body) {
  let response;
  try {
    response = await fetch(`api/${what}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Mlscaffold-Token": token },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Refused("mlscaffold web does not answer: it has ended. Start it again and open its address.", true);
  }
  if (response.ok) return response;
  throw new Refused((await response.text()).trim(), response.status === 403);
}
