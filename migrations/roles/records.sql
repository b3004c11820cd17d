-- What `regard_records` may do in the records database. Run by the database's owner, in that database, after every
-- `regard db upgrade`; running it again is fine. A table that is not named here is closed to the service.
--
-- No DDL, no TRUNCATE, nothing in the key store. What only ever grows cannot be changed or removed; of a ledger entry
-- only its place in the tree and the end of its sealed payload can be written.

DO $database$
BEGIN
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO regard_records', current_database());
END
$database$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO regard_records;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, regard_records;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO regard_records;

-- Which revision the schema has.
GRANT SELECT ON alembic_version TO regard_records;

-- What happened: written once.
GRANT SELECT, INSERT ON
  case_events, case_messages, case_notes, consent_events, consent_notices, consent_receipts, disclosures,
  export_cohorts, export_members, ledger_entries, ledger_nodes, ledger_references, oauth_refresh_tokens,
  policy_adoptions
  TO regard_records;
GRANT UPDATE (position, sealed) ON ledger_entries TO regard_records;

-- What stands at present: changed, never removed.
GRANT SELECT, INSERT, UPDATE ON
  case_lines, case_packages, case_retentions, cases, certificate_links, consents, enrolment_codes, holder_heartbeats,
  holder_tasks, ledger_checkpoints, ledger_tree, oauth_clients, oauth_grants, oauth_read_counters, oauth_signing_keys,
  objections, recipient_tasks, release_candidates, restrictions, staff_members, subjects, tombstone_marks
  TO regard_records;

-- What ends: removed when its time is over.
GRANT SELECT, INSERT, DELETE ON oauth_spent_ids, oauth_unattended_reads, pairwise_handles, queued_mail
  TO regard_records;
GRANT SELECT, INSERT, UPDATE, DELETE ON
  contact_points, door_counters, export_pool, journeys, keyed_requests, oauth_access_tokens, oauth_codes,
  oauth_requests, passkeys, sessions, sign_ins
  TO regard_records;

-- The tables of the durable work engine are its own affair.
GRANT USAGE ON SCHEMA dbos TO regard_records;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA dbos TO regard_records;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA dbos TO regard_records;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dbos TO regard_records;
