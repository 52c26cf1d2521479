-- The demo world, in SQL that Postgres and SQLite both read.

INSERT INTO locations (location_id, name, description, exits, danger_level, image_path, x, y, tags, interactables, npcs) VALUES
  ('overpass', 'Broken Overpass', 'A collapsed highway overpass. Rusted cars hang over the edge, and the wind sings in the cables.', '{"north":"gas_station","east":"ruins","south":"old_town"}', 2, 'images/locations/overpass.webp', 0, 0, '["outdoor","road","high_ground"]', '["abandoned_bus","road_sign"]', '["scavenger_mara"]'),
  ('gas_station', 'Gas Station', 'An abandoned gas station. The pumps are dry, the shelves mostly bare.', '{"south":"overpass","east":"motel"}', 1, 'images/locations/gas_station.webp', 0, 1, '["indoor","loot"]', '["vending_machine","fuel_pump"]', '["trader_ilya"]'),
  ('ruins', 'Ruins', 'Walls without roofs. Something has been digging here.', '{"west":"overpass","north":"motel","east":"factory"}', 4, 'images/locations/ruins.webp', 1, 0, '["outdoor","dangerous"]', '["rubble_pile","cellar_door"]', '[]'),
  ('old_town', 'Old Town', 'Narrow streets around a dry fountain.', '{"north":"overpass","east":"market","south":"harbor"}', 2, 'images/locations/old_town.webp', 0, -1, '["outdoor","streets"]', '["fountain","notice_board"]', '["old_benny"]'),
  ('market', 'Market', 'Stalls under patched tarpaulins; the smell of smoke and onions.', '{"west":"old_town","north":"factory","east":"chapel"}', 0, 'images/locations/market.webp', 1, -1, '["safe","trade"]', '["stall_weapons","stall_food"]', '["trader_ilya","cook_sven"]'),
  ('motel', 'Roadside Motel', 'Twelve doors, eleven of them broken.', '{"west":"gas_station","south":"ruins","north":"forest"}', 2, 'images/locations/motel.webp', 1, 1, '["indoor","rest"]', '["bed","locked_door"]', '[]'),
  ('factory', 'Silent Factory', 'Conveyor belts lead nowhere. The power hums somewhere below.', '{"west":"ruins","south":"market","east":"power_plant"}', 5, 'images/locations/factory.webp', 2, 0, '["indoor","machines"]', '["control_panel","assembly_line"]', '["drone_k7"]'),
  ('forest', 'Grey Forest', 'Trees without birds.', '{"south":"motel","east":"cabin"}', 3, 'images/locations/forest.webp', 1, 2, '["outdoor","wild"]', '["fallen_tree","snare"]', '[]'),
  ('cabin', 'Hunter''s Cabin', 'A warm stove and a locked chest.', '{"west":"forest"}', 1, 'images/locations/cabin.webp', 2, 2, '["indoor","safe","rest"]', '["stove","chest"]', '["hunter_ona"]'),
  ('harbor', 'Harbor', 'Cranes over black water. A ferry lies on its side.', '{"north":"old_town","east":"lighthouse"}', 3, 'images/locations/harbor.webp', 0, -2, '["outdoor","water"]', '["crane","ferry"]', '["fisher_tom"]'),
  ('lighthouse', 'Lighthouse', 'The lamp still turns; nobody knows why.', '{"west":"harbor"}', 2, 'images/locations/lighthouse.webp', 1, -2, '["indoor","high_ground"]', '["lamp","logbook"]', '["keeper"]'),
  ('chapel', 'Chapel', 'Candles burn before a wall of names.', '{"west":"market","north":"hospital"}', 1, 'images/locations/chapel.webp', 2, -1, '["indoor","safe"]', '["altar","candles"]', '["sister_agnes"]'),
  ('hospital', 'Hospital', 'Long corridors, flickering light, closed doors.', '{"south":"chapel","east":"laboratory"}', 6, 'images/locations/hospital.webp', 2, 0, '["indoor","dangerous","medical"]', '["medicine_cabinet","gurney"]', '[]'),
  ('laboratory', 'Laboratory', 'Glass on the floor, writing on the wall: "do not open".', '{"west":"hospital","north":"power_plant"}', 8, 'images/locations/laboratory.webp', 3, 0, '["indoor","dangerous","science"]', '["terminal","sealed_door"]', '["doctor_weiss"]'),
  ('power_plant', 'Power Plant', 'The reactor is cold. Almost.', '{"west":"factory","south":"laboratory"}', 9, 'images/locations/power_plant.webp', 3, 1, '["indoor","dangerous","machines"]', '["reactor","valve"]', '["drone_k9"]'),
  ('radio_tower', 'Radio Tower', 'A voice repeats numbers through the static: ⌘ 7 7 4.', '{"south":"forest"}', 4, 'images/locations/radio_tower.webp', 1, 3, '["outdoor","high_ground"]', '["transmitter"]', '[]');

INSERT INTO items (item_id, name, description, type, weight, volume, emoji, image_path, equippable, consumable, stats, effects, tier, damage_min, damage_max, durability) VALUES
  ('iron_sword', 'Iron Sword', 'Iron Sword: a weapon of tier 2.', 'weapon', 3.5, 2.8, '⚔️', 'images/items/iron_sword.webp', TRUE, FALSE, '{"strength":4}', '{}', 2, 6, 11, 120),
  ('rusty_knife', 'Rusty Knife', 'Rusty Knife: a weapon of tier 1.', 'weapon', 0.4, 0.32, '🔪', 'images/items/rusty_knife.webp', TRUE, FALSE, '{"strength":2}', '{}', 1, 1, 4, 40),
  ('steel_axe', 'Steel Axe', 'Steel Axe: a weapon of tier 3.', 'weapon', 4.2, 3.36, '🪓', 'images/items/steel_axe.webp', TRUE, FALSE, '{"strength":6}', '{}', 3, 9, 15, 160),
  ('hunting_bow', 'Hunting Bow', 'Hunting Bow: a weapon of tier 2.', 'weapon', 1.5, 1.2, '🏹', 'images/items/hunting_bow.webp', TRUE, FALSE, '{"strength":4}', '{}', 2, 5, 12, 90),
  ('baseball_bat', 'Baseball Bat', 'Baseball Bat: a weapon of tier 1.', 'weapon', 1.1, 0.88, '🏏', 'images/items/baseball_bat.webp', TRUE, FALSE, '{"strength":2}', '{}', 1, 3, 6, 70),
  ('machete', 'Machete', 'Machete: a weapon of tier 2.', 'weapon', 1.3, 1.04, '🔪', 'images/items/machete.webp', TRUE, FALSE, '{"strength":4}', '{}', 2, 5, 9, 100),
  ('crossbow', 'Crossbow', 'Crossbow: a weapon of tier 3.', 'weapon', 3.8, 3.04, '🏹', 'images/items/crossbow.webp', TRUE, FALSE, '{"strength":6}', '{}', 3, 10, 18, 110),
  ('plasma_cutter', 'Plasma Cutter', 'Plasma Cutter: a weapon of tier 5.', 'weapon', 6.0, 4.8, '🔦', 'images/items/plasma_cutter.webp', TRUE, FALSE, '{"strength":10}', '{}', 5, 20, 35, 60),
  ('leather_jacket', 'Leather Jacket', 'Leather Jacket that turns a blow.', 'armor', 2.5, 3.75, '🧥', 'images/items/leather_jacket.webp', TRUE, FALSE, '{"armor":4}', '{}', 1, NULL, NULL, 100),
  ('kevlar_vest', 'Kevlar Vest', 'Kevlar Vest that turns a blow.', 'armor', 4.5, 6.75, '🦺', 'images/items/kevlar_vest.webp', TRUE, FALSE, '{"armor":12}', '{}', 3, NULL, NULL, 140),
  ('work_boots', 'Work Boots', 'Work Boots that turns a blow.', 'armor', 1.8, 2.7, '🥾', 'images/items/work_boots.webp', TRUE, FALSE, '{"armor":2}', '{}', 1, NULL, NULL, 100),
  ('gas_mask', 'Gas Mask', 'Gas Mask that turns a blow.', 'armor', 1.0, 1.5, '😷', 'images/items/gas_mask.webp', TRUE, FALSE, '{"armor":3}', '{}', 2, NULL, NULL, 120),
  ('riot_shield', 'Riot Shield', 'Riot Shield that turns a blow.', 'armor', 7.5, 11.25, '🛡️', 'images/items/riot_shield.webp', TRUE, FALSE, '{"armor":18}', '{}', 4, NULL, NULL, 160),
  ('canned_beans', 'Canned Beans', 'Canned Beans, used up when taken.', 'consumable', 0.5, 0.5, '🥫', 'images/items/canned_beans.webp', FALSE, TRUE, '{}', '{"stamina":15}', 1, NULL, NULL, NULL),
  ('water_bottle', 'Water Bottle', 'Water Bottle, used up when taken.', 'consumable', 0.6, 0.6, '💧', 'images/items/water_bottle.webp', FALSE, TRUE, '{}', '{"stamina":10}', 1, NULL, NULL, NULL),
  ('bandage', 'Bandage', 'Bandage, used up when taken.', 'consumable', 0.1, 0.1, '🩹', 'images/items/bandage.webp', FALSE, TRUE, '{}', '{"hp":10}', 1, NULL, NULL, NULL),
  ('medkit', 'Medkit', 'Medkit, used up when taken.', 'consumable', 1.2, 1.2, '🧰', 'images/items/medkit.webp', FALSE, TRUE, '{}', '{"hp":60}', 1, NULL, NULL, NULL),
  ('painkillers', 'Painkillers', 'Painkillers, used up when taken.', 'consumable', 0.1, 0.1, '💊', 'images/items/painkillers.webp', FALSE, TRUE, '{}', '{"hp":5,"stamina":5}', 1, NULL, NULL, NULL),
  ('energy_bar', 'Energy Bar', 'Energy Bar, used up when taken.', 'consumable', 0.1, 0.1, '🍫', 'images/items/energy_bar.webp', FALSE, TRUE, '{}', '{"stamina":20}', 1, NULL, NULL, NULL),
  ('antidote', 'Antidote', 'Antidote, used up when taken.', 'consumable', 0.2, 0.2, '🧪', 'images/items/antidote.webp', FALSE, TRUE, '{}', '{"cure":"poison"}', 1, NULL, NULL, NULL),
  ('coffee', 'Coffee', 'Coffee, used up when taken.', 'consumable', 0.3, 0.3, '☕', 'images/items/coffee.webp', FALSE, TRUE, '{}', '{"stamina":25}', 1, NULL, NULL, NULL),
  ('dried_meat', 'Dried Meat', 'Dried Meat, used up when taken.', 'consumable', 0.3, 0.3, '🥩', 'images/items/dried_meat.webp', FALSE, TRUE, '{}', '{"hp":5,"stamina":10}', 1, NULL, NULL, NULL),
  ('apple', 'Apple', 'Apple, used up when taken.', 'consumable', 0.2, 0.2, '🍎', 'images/items/apple.webp', FALSE, TRUE, '{}', '{"hp":2}', 1, NULL, NULL, NULL),
  ('iron_ore', 'Iron Ore', 'Iron Ore, for crafting.', 'material', 2.0, 1.4, '🪨', 'images/items/iron_ore.webp', FALSE, FALSE, '{}', '{}', 1, NULL, NULL, NULL),
  ('copper_wire', 'Copper Wire', 'Copper Wire, for crafting.', 'material', 0.3, 0.21, '🧵', 'images/items/copper_wire.webp', FALSE, FALSE, '{}', '{}', 1, NULL, NULL, NULL),
  ('scrap_metal', 'Scrap Metal', 'Scrap Metal, for crafting.', 'material', 1.0, 0.7, '⚙️', 'images/items/scrap_metal.webp', FALSE, FALSE, '{}', '{}', 1, NULL, NULL, NULL),
  ('cloth', 'Cloth', 'Cloth, for crafting.', 'material', 0.2, 0.14, '🧻', 'images/items/cloth.webp', FALSE, FALSE, '{}', '{}', 1, NULL, NULL, NULL),
  ('wood_plank', 'Wood Plank', 'Wood Plank, for crafting.', 'material', 1.5, 1.05, '🪵', 'images/items/wood_plank.webp', FALSE, FALSE, '{}', '{}', 1, NULL, NULL, NULL),
  ('duct_tape', 'Duct Tape', 'Duct Tape, for crafting.', 'material', 0.2, 0.14, '📦', 'images/items/duct_tape.webp', FALSE, FALSE, '{}', '{}', 1, NULL, NULL, NULL),
  ('gunpowder', 'Gunpowder', 'Gunpowder, for crafting.', 'material', 0.5, 0.35, '💥', 'images/items/gunpowder.webp', FALSE, FALSE, '{}', '{}', 2, NULL, NULL, NULL),
  ('circuit_board', 'Circuit Board', 'Circuit Board, for crafting.', 'material', 0.2, 0.14, '💾', 'images/items/circuit_board.webp', FALSE, FALSE, '{}', '{}', 3, NULL, NULL, NULL),
  ('battery', 'Battery', 'Battery, for crafting.', 'material', 0.4, 0.28, '🔋', 'images/items/battery.webp', FALSE, FALSE, '{}', '{}', 2, NULL, NULL, NULL),
  ('glass_shard', 'Glass Shard', 'Glass Shard, for crafting.', 'material', 0.1, 0.07, '🔹', 'images/items/glass_shard.webp', FALSE, FALSE, '{}', '{}', 1, NULL, NULL, NULL),
  ('oil_canister', 'Oil Canister', 'Oil Canister, for crafting.', 'material', 3.0, 2.1, '🛢️', 'images/items/oil_canister.webp', FALSE, FALSE, '{}', '{}', 2, NULL, NULL, NULL),
  ('rare_alloy', 'Rare Alloy', 'Rare Alloy, for crafting.', 'material', 1.0, 0.7, '💠', 'images/items/rare_alloy.webp', FALSE, FALSE, '{}', '{}', 4, NULL, NULL, NULL),
  ('flashlight', 'Flashlight', 'Flashlight, a useful thing.', 'tool', 0.4, 0.4, '🔦', 'images/items/flashlight.webp', FALSE, FALSE, '{}', '{}', 2, NULL, NULL, 50),
  ('lockpick', 'Lockpick', 'Lockpick, a useful thing.', 'tool', 0.1, 0.1, '🗝️', 'images/items/lockpick.webp', FALSE, FALSE, '{}', '{}', 2, NULL, NULL, 50),
  ('rope', 'Rope', 'Rope, a useful thing.', 'tool', 1.5, 1.5, '🪢', 'images/items/rope.webp', FALSE, FALSE, '{}', '{}', 2, NULL, NULL, 50),
  ('radio', 'Radio', 'Radio, a useful thing.', 'tool', 0.9, 0.9, '📻', 'images/items/radio.webp', FALSE, FALSE, '{}', '{}', 2, NULL, NULL, 50),
  ('keycard_blue', 'Blue Keycard', 'Blue Keycard, a useful thing.', 'tool', 0.0, 0.0, '💳', 'images/items/keycard_blue.webp', FALSE, FALSE, '{}', '{}', 2, NULL, NULL, 50);

INSERT INTO characters (character_id, name)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
SELECT i, 'survivor ' || i FROM n;

-- Sessions: locations and numbers follow from the id, so that tests and tours can predict them.
INSERT INTO sessions (character_id, worker_id, websocket_connected, location_id, hp, max_hp, stamina, max_stamina,
                      level, xp, last_movement_time, in_combat, last_heartbeat, attributes)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100),
     place (at, location_id) AS (SELECT row_number() OVER (ORDER BY location_id) - 1, location_id FROM locations)
SELECT i, 'worker-' || (i % 4 + 1), i % 3 <> 0, location_id, 100 - i % 40, 100, 50 + i % 50, 100,
       i % 20 + 1, i * 125, '2026-11-20 08:00:00Z', i % 10 = 0, '2026-11-20 08:00:30Z', '{"title":"survivor"}'
FROM n JOIN place ON at = i % 14;

-- Inventories: character i holds (i * 8) % 21 rows, 0 to 20.
INSERT INTO inventory_items (character_id, item_id, quantity, equipped, position)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100),
     slot (s) AS (SELECT 0 UNION ALL SELECT s + 1 FROM slot WHERE s < 19),
     thing (at, item_id) AS (SELECT row_number() OVER (ORDER BY item_id) - 1, item_id FROM items)
SELECT i, item_id, s % 5 + 1, s = 0, s
FROM n JOIN slot ON s < (i * 8) % 21 JOIN thing ON at = (i + s * 3) % 40
ORDER BY i, s;
