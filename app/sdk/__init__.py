"""The contract with components: scopes, claims, gate, sealer, client, and the codecs of sealed records and evidence."""
