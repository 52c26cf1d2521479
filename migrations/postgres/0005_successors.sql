-- Which opening of a journal took over what this one left. It is noted once: whoever opens a copy of the file later sees
-- that somebody else has saved, or may have saved, what waits in it.
ALTER TABLE hearthside.journals ADD COLUMN successor text;
