// The exchange of a token for a cookie. The token is in the fragment of the address, which no server gets.

const token = document.getElementById("token");
const state = document.getElementById("state");

async function signIn(text) {
  state.textContent = "Checking the token …";
  // The server reads UTF-8. Each character of a header is one byte.
  const bytes = String.fromCharCode(...new TextEncoder().encode(text));
  try {
    const response = await fetch("session", { cache: "no-store", headers: { Authorization: `Bearer ${bytes}` } });
    if (response.ok) {
      location.replace("./");
      return;
    }
    state.textContent = response.status === 401 ? "The service does not accept this token." : "This client may not see the page.";
  } catch {
    state.textContent = "The service cannot be reached, or the token has a character that no header can have.";
  }
}

document.getElementById("open").addEventListener("click", () => signIn(token.value.trim()));
token.addEventListener("keydown", (event) => {
  if (event.key === "Enter") signIn(token.value.trim());
});

const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  // It must not stay in the address bar or in the history.
  history.replaceState(null, "", location.pathname);
  signIn(given);
}
