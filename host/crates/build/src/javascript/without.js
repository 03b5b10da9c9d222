// The engine has this, and ends the instance when it is called: there is no network. As with QuickJS, the name is unknown.
delete globalThis.fetch;
