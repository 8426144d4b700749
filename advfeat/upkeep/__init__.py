"""What keeps a store healthy: what it holds, what can go, what is damaged and computed again."""
