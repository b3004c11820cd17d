-- The four roles of a deployment on PostgreSQL, made once in a server by its administrator; running it again is fine.
--
-- Each store has an owner, which brings the schema up to date (`regard db upgrade`), and a role that serves, which may
-- do what the code does and nothing else. No role can act for another. Passwords are set by hand (\password), since a
-- file in a repository is no place for them. Where records and keys are on two servers, each needs its own two alone.

DO $roles$
DECLARE
  role_name text;
BEGIN
  FOREACH role_name IN ARRAY ARRAY['regard_records_owner', 'regard_records', 'regard_keys_owner', 'regard_keys'] LOOP
    BEGIN
      EXECUTE format('CREATE ROLE %I', role_name);
    EXCEPTION
      WHEN duplicate_object OR unique_violation THEN NULL;
    END;
    EXECUTE format(
      'ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', role_name);
  END LOOP;
END
$roles$;
