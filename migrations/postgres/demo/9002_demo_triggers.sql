-- What `hearthside triggers` prints for the demo's mappings (the shipped config.toml).

-- location:{location_id}:cache
DROP TRIGGER IF EXISTS hearthside_84851b31_ins ON locations;
CREATE TRIGGER hearthside_84851b31_ins AFTER INSERT ON locations REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('location:{location_id}:cache', 'location:', 'location_id', ':cache');
DROP TRIGGER IF EXISTS hearthside_84851b31_upd ON locations;
CREATE TRIGGER hearthside_84851b31_upd AFTER UPDATE ON locations REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('location:{location_id}:cache', 'location:', 'location_id', ':cache');
DROP TRIGGER IF EXISTS hearthside_84851b31_del ON locations;
CREATE TRIGGER hearthside_84851b31_del AFTER DELETE ON locations REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('location:{location_id}:cache', 'location:', 'location_id', ':cache');
DROP TRIGGER IF EXISTS hearthside_84851b31_trn ON locations;
CREATE TRIGGER hearthside_84851b31_trn AFTER TRUNCATE ON locations
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('location:{location_id}:cache', 'location:', 'location_id', ':cache');

-- item:{item_id}:def
DROP TRIGGER IF EXISTS hearthside_4a68d577_ins ON items;
CREATE TRIGGER hearthside_4a68d577_ins AFTER INSERT ON items REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('item:{item_id}:def', 'item:', 'item_id', ':def');
DROP TRIGGER IF EXISTS hearthside_4a68d577_upd ON items;
CREATE TRIGGER hearthside_4a68d577_upd AFTER UPDATE ON items REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('item:{item_id}:def', 'item:', 'item_id', ':def');
DROP TRIGGER IF EXISTS hearthside_4a68d577_del ON items;
CREATE TRIGGER hearthside_4a68d577_del AFTER DELETE ON items REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('item:{item_id}:def', 'item:', 'item_id', ':def');
DROP TRIGGER IF EXISTS hearthside_4a68d577_trn ON items;
CREATE TRIGGER hearthside_4a68d577_trn AFTER TRUNCATE ON items
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('item:{item_id}:def', 'item:', 'item_id', ':def');

-- player:{character_id:int}:session
DROP TRIGGER IF EXISTS hearthside_33c6ea22_ins ON sessions;
CREATE TRIGGER hearthside_33c6ea22_ins AFTER INSERT ON sessions REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('player:{character_id:int}:session', 'player:', 'character_id', ':session');
DROP TRIGGER IF EXISTS hearthside_33c6ea22_upd ON sessions;
CREATE TRIGGER hearthside_33c6ea22_upd AFTER UPDATE ON sessions REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('player:{character_id:int}:session', 'player:', 'character_id', ':session');
DROP TRIGGER IF EXISTS hearthside_33c6ea22_del ON sessions;
CREATE TRIGGER hearthside_33c6ea22_del AFTER DELETE ON sessions REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('player:{character_id:int}:session', 'player:', 'character_id', ':session');
DROP TRIGGER IF EXISTS hearthside_33c6ea22_trn ON sessions;
CREATE TRIGGER hearthside_33c6ea22_trn AFTER TRUNCATE ON sessions
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('player:{character_id:int}:session', 'player:', 'character_id', ':session');

-- player:{character_id:int}:inventory
DROP TRIGGER IF EXISTS hearthside_0eaeb7b2_ins ON inventory_items;
CREATE TRIGGER hearthside_0eaeb7b2_ins AFTER INSERT ON inventory_items REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('player:{character_id:int}:inventory', 'player:', 'character_id', ':inventory');
DROP TRIGGER IF EXISTS hearthside_0eaeb7b2_upd ON inventory_items;
CREATE TRIGGER hearthside_0eaeb7b2_upd AFTER UPDATE ON inventory_items REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('player:{character_id:int}:inventory', 'player:', 'character_id', ':inventory');
DROP TRIGGER IF EXISTS hearthside_0eaeb7b2_del ON inventory_items;
CREATE TRIGGER hearthside_0eaeb7b2_del AFTER DELETE ON inventory_items REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('player:{character_id:int}:inventory', 'player:', 'character_id', ':inventory');
DROP TRIGGER IF EXISTS hearthside_0eaeb7b2_trn ON inventory_items;
CREATE TRIGGER hearthside_0eaeb7b2_trn AFTER TRUNCATE ON inventory_items
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('player:{character_id:int}:inventory', 'player:', 'character_id', ':inventory');

-- player:{character_id:int}:inventory
DROP TRIGGER IF EXISTS hearthside_5b1f6f6a_ins ON items;
CREATE TRIGGER hearthside_5b1f6f6a_ins AFTER INSERT ON items REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('player:{character_id:int}:inventory');
DROP TRIGGER IF EXISTS hearthside_5b1f6f6a_upd ON items;
CREATE TRIGGER hearthside_5b1f6f6a_upd AFTER UPDATE ON items REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('player:{character_id:int}:inventory');
DROP TRIGGER IF EXISTS hearthside_5b1f6f6a_del ON items;
CREATE TRIGGER hearthside_5b1f6f6a_del AFTER DELETE ON items REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('player:{character_id:int}:inventory');
DROP TRIGGER IF EXISTS hearthside_5b1f6f6a_trn ON items;
CREATE TRIGGER hearthside_5b1f6f6a_trn AFTER TRUNCATE ON items
    FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed('player:{character_id:int}:inventory');
