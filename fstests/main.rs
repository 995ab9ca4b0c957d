//! Tests that need a mount, a server or another tool. One module a topic.
