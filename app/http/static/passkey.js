// The only script: hands a passkey ceremony from the browser to the form it sits in. Without it every page still reads.
"use strict";
(() => {
  const form = document.querySelector("form[data-passkey]");
  if (!form) return;
  const button = form.querySelector("button");
  const without = document.querySelector("[data-passkey-without]");
  const told = document.querySelector("[data-passkey-told]");
  const say = (text) => { told.textContent = text; told.hidden = false; };
  without.hidden = true;
  if (!window.PublicKeyCredential || !PublicKeyCredential.parseCreationOptionsFromJSON) {
    say(form.dataset.unsupported);
    return;
  }
  button.hidden = false;
  form.addEventListener("submit", async (event) => {
    if (form.elements.credential.value) return;
    event.preventDefault();
    told.hidden = true;
    button.disabled = true;
    try {
      const options = JSON.parse(form.dataset.options);
      const credential = form.dataset.passkey === "create"
        ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
        : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
      form.elements.credential.value = JSON.stringify(credential.toJSON());
      form.submit();
    } catch (fault) {
      button.disabled = false;
      say(fault.name === "InvalidStateError" ? form.dataset.known : form.dataset.refused);
    }
  });
})();
