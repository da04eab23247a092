//! Replicates the log to the hub over MQTT.
