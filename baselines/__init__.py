"""The methods that DRC is compared with, one file each, and how their masks are judged."""
