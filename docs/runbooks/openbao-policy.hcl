# All that Regard's token may do on the key server, and nothing else. Load it with
#
#   bao policy write regard docs/runbooks/openbao-policy.hcl
#   bao token create -policy=regard -no-default-policy -period=24h
#
# The transit mount ("transit" here; change each line when yours is called otherwise) belongs to this deployment alone:
# two deployments on one mount would destroy each other's roots. Forbid that keys are made by encrypting:
#
#   bao write transit/config/keys disable_upsert=true
#
# Nobody who may use "keys/+/restore", "backup/+", "export/+" or sys/raw should be anybody of the day-to-day.

# Make a root, read how it stands. It can be made in one way only: not to be exported, not to be backed up in plain.
path "transit/keys/+" {
  capabilities = ["read", "update"]
  allowed_parameters = {
    "type"                   = ["aes256-gcm96"]
    "exportable"             = [false]
    "allow_plaintext_backup" = [false]
  }
}

# Wrap and unwrap. No "create" here or above: encrypting must not make a key, and making one needs none.
path "transit/encrypt/+" {
  capabilities = ["update"]
}

path "transit/decrypt/+" {
  capabilities = ["update"]
}

# Destroy: rotate, raise both bounds, trim. The bounds are all of a key's configuration that may be set.
path "transit/keys/+/rotate" {
  capabilities = ["update"]
}

path "transit/keys/+/config" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_encryption_version" = []
    "min_decryption_version" = []
  }
}

path "transit/keys/+/trim" {
  capabilities = ["update"]
}
