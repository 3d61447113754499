//! CRI v1 messages, the two service traits, adapters to and from a socket.
