"""What training stages share: where inputs come from, nets from artifacts, the one trainer, the judge."""
