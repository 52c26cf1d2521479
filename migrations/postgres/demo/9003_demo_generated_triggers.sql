-- The triggers of 9002 give way to generated ones, which `hearthside migrate --demo` makes next.
DO $$
DECLARE
    earlier record;
BEGIN
    FOR earlier IN
        SELECT tgname, tgrelid::regclass AS relation FROM pg_trigger
        WHERE tgfoid = 'hearthside.changed'::regproc AND tgrelid IN
            ('locations'::regclass, 'items'::regclass, 'sessions'::regclass, 'inventory_items'::regclass)
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', earlier.tgname, earlier.relation);
    END LOOP;
END $$;
