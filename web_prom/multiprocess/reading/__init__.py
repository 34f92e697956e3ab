"""Reading the files of all slots and merging them into one scrape."""
