"""How a scrape is answered: HTTP, access control, gathering, and the text formats."""
