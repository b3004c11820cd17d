-- What `regard_keys` may do in the key store. Run by the database's owner, in that database, after every
-- `regard db upgrade`; running it again is fine. A table that is not named here is closed to the service.
--
-- No DDL, no TRUNCATE, nothing in the records. What was destroyed, and for whom, can be added to and never taken back.

DO $database$
BEGIN
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO regard_keys', current_database());
END
$database$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO regard_keys;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, regard_keys;

-- Which revision the schema has.
GRANT SELECT ON alembic_version TO regard_keys;

-- What was destroyed and who agreed: written once.
GRANT SELECT, INSERT ON destroyed_keys, erased_subjects, erasure_approvals, erasure_targets TO regard_keys;

-- Partitions, and the journal of erasures: changed, never removed.
GRANT SELECT, INSERT, UPDATE ON allotments, erasure_sites, erasures, partitions, tombstone_marks TO regard_keys;

-- Wrapped keys: removing them is what erasing is.
GRANT SELECT, INSERT, DELETE ON erasure_probes TO regard_keys;
GRANT SELECT, INSERT, UPDATE, DELETE ON data_keys, index_keys, subject_keys TO regard_keys;
