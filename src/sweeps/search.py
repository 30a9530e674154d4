from .grid import PlannedSweeper


class SearchSweeper(PlannedSweeper):
    pass
