// Begins: the colours, then the token if one is asked for, then the views.

import { key } from './key.js';
import { mappings } from './mappings.js';
import { clients, events } from './people.js';
import * as session from './session.js';
import { overview } from './status.js';
import * as theme from './theme.js';
import { traffic } from './traffic.js';
import * as views from './views.js';
import { wizard } from './wizard.js';

theme.start();
await session.begin();
views.start([overview(), mappings(), key(), traffic(), clients(), events(), wizard()]);
