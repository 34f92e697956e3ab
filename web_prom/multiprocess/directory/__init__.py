"""The directory that workers share: its slots and locks, its creation, its cleaning and its removal."""
