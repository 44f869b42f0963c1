"""The bot in a Discord without Discord: a live SimCord world and a page that plays its members.

`live` makes SimCord live; `world` is the server and its people, for tests too; `server`, `session`, `player`, `views`
and `markup` are the page's side, in the order in which a request passes them. `encore demo` runs `server.serve`.
"""
