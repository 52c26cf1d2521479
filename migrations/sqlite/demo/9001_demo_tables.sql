-- The demo world's tables.
CREATE TABLE locations (
    location_id   TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    description   TEXT NOT NULL,
    exits         JSON NOT NULL,
    danger_level  INTEGER NOT NULL,
    image_path    TEXT,
    x             INTEGER NOT NULL,
    y             INTEGER NOT NULL,
    tags          JSON NOT NULL,
    interactables JSON NOT NULL,
    npcs          JSON NOT NULL
);

CREATE TABLE items (
    item_id     TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    type        TEXT NOT NULL,
    weight      REAL NOT NULL,
    volume      REAL NOT NULL,
    emoji       TEXT,
    image_path  TEXT,
    equippable  BOOLEAN NOT NULL,
    consumable  BOOLEAN NOT NULL,
    stats       JSON NOT NULL,
    effects     JSON NOT NULL,
    tier        INTEGER NOT NULL,
    damage_min  INTEGER,
    damage_max  INTEGER,
    durability  INTEGER
);

CREATE TABLE characters (
    character_id INTEGER PRIMARY KEY,
    name         TEXT NOT NULL
);

CREATE TABLE sessions (
    character_id        INTEGER PRIMARY KEY REFERENCES characters,
    worker_id           TEXT,
    websocket_connected BOOLEAN NOT NULL,
    location_id         TEXT NOT NULL REFERENCES locations,
    hp                  INTEGER NOT NULL,
    max_hp              INTEGER NOT NULL,
    stamina             INTEGER NOT NULL,
    max_stamina         INTEGER NOT NULL,
    level               INTEGER NOT NULL,
    xp                  INTEGER NOT NULL,
    last_movement_time  TIMESTAMP,
    in_combat           BOOLEAN NOT NULL,
    last_heartbeat      TIMESTAMP,
    attributes          JSON
);

CREATE TABLE inventory_items (
    inventory_id INTEGER PRIMARY KEY,
    character_id INTEGER NOT NULL REFERENCES characters,
    item_id      TEXT NOT NULL REFERENCES items,
    quantity     INTEGER NOT NULL,
    equipped     BOOLEAN NOT NULL,
    position     INTEGER NOT NULL
);

CREATE INDEX inventory_items_by_character ON inventory_items (character_id, position);
